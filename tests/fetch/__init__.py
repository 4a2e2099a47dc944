"""Fetches from URLs, against real origins on 127.0.0.1."""
