"""What HTTP says: conditions, ranges, media types, forms."""
