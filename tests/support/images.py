"""Images as files: made by Pillow, and handed to what works on open files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from open_workshop_storage.utils.images import pictures


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Return an image as a file's bytes."""
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def normalise(source: Path, target: Path) -> None:
    """Normalise one file into another."""
    with source.open("rb") as reader, target.open("w+b") as writer:
        pictures.normalise(reader, writer)


def blurhash(path: Path) -> tuple[str, int, int]:
    """Return a file's BlurHash, width and height."""
    with path.open("rb") as file:
        return pictures.blurhash(file)
