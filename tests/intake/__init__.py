"""Bytes that come in over the network."""
