"""Paths and names from outside, and files that are read without waiting and written durably."""
