"""Permanent files, workspaces and disk space."""
