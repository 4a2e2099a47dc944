"""What is done to images."""
