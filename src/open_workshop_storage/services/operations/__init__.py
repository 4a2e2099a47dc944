"""What operators see, and how a process starts and ends."""
