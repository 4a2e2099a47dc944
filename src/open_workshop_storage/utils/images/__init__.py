"""Decoders and encoders, and the child processes that they run in."""
