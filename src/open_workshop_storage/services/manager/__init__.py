"""Calls from the Manager, and callbacks to it."""
