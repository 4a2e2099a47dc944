"""Gives stored files out, and asks which client may have them."""
