"""Permanent files."""
