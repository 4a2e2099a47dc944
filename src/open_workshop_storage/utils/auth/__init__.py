"""Signs and reads tokens."""
