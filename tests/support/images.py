"""Images as files: made by Pillow, and handed to what works on open files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from open_workshop_storage.utils.images import conversion

# What the lossy encoder may change in a plain area.
TOLERANCE = 4

Normalised = Callable[[bytes], Image.Image]
"""Normalises what a file contains, and opens the result."""


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Return an image as a file's bytes."""
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def gif(width: int, height: int, frames: int) -> bytes:
    """Return a GIF of this size, each of whose frames is a single pixel."""
    palette = bytes(3) + b"\xff" * 3
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + palette + frames * frame + b";"


def normalise(source: Path, target: Path) -> None:
    """Normalise one file into another."""
    with source.open("rb") as reader, target.open("w+b") as writer:
        conversion.normalise(reader, writer)


def blurhash(path: Path) -> tuple[str, int, int]:
    """Return a file's BlurHash, width and height."""
    with path.open("rb") as file:
        return conversion.blurhash(file)


def assert_colour(image: Image.Image, expected: tuple[int, ...], at: tuple[int, int] = (3, 3)) -> None:
    """Compare a pixel."""
    found = image.getpixel(at)
    assert isinstance(found, tuple)
    assert len(found) == len(expected)
    assert all(abs(a - b) <= TOLERANCE for a, b in zip(found, expected, strict=True)), found


def quarters() -> Image.Image:
    """Return a picture of 64×48 whose four quarters tell which way it is turned."""
    image = Image.new("RGB", (64, 48), "red")
    image.paste("blue", (32, 0, 64, 24))
    image.paste("white", (0, 24, 32, 48))
    image.paste("black", (32, 24, 64, 48))
    return image


def assert_upright(image: Image.Image) -> None:
    """Make sure that a picture is `quarters`, and not turned."""
    assert image.size == (64, 48)
    assert_colour(image, (255, 0, 0), (8, 8))
    assert_colour(image, (0, 0, 255), (56, 8))
    assert_colour(image, (255, 255, 255), (8, 40))
    assert_colour(image, (0, 0, 0), (56, 40))
