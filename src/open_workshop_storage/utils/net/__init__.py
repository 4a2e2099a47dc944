"""Addresses, connections, and what origins answer."""
