"""Leaves without state: paths, archives, images, tokens."""
