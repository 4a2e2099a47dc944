"""Dates, conditions, ranges, media types and forms as HTTP defines them."""
