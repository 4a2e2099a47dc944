"""Images: normalised, and hashed for previews."""
