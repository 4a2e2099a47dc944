"""Random transfers under random faults, and what must be true of them in the end."""
