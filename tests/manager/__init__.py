"""What the Manager calls, and what it is told."""
