"""Open Workshop Storage: takes mods in, makes them safe and uniform, gives them out."""
