"""Archives of every kind, sound and hostile, against the real `7z`."""
