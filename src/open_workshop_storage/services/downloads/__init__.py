"""Stored files, given out."""
