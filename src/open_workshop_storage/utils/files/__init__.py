"""Paths, names, durable writes and disk space."""
