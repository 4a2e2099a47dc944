"""What the documents say, against the code."""
