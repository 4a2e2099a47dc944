"""Open Workshop Storage: takes mods in, makes them safe and uniform, gives them out."""

__version__ = "1.0.0"
