"""Addresses and origins."""
