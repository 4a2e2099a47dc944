"""Opens the images that are taken, within limits, and tells broken ones from other failures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO

from PIL import Image, ImageChops

from open_workshop_storage.utils.images import jpeg, pillow, png

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""The formats that are taken, by Pillow's names: what browsers show and cameras write. No other decoder runs."""

MAX_SOURCE_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 89_478_485
"""Of one frame; where Pillow begins to suspect a decompression bomb."""


MAX_SCANS = 100
"""Of a JPEG; each takes as long as all of a simple picture, and a few bytes."""

_MOST_MISSING = 1 / 20
"""Of a JPEG's pixels, all in its last row of units, which must have begun; else it counts as cut in the middle."""
_SMOOTHED_ROWS = 1
"""How far decoders look from a unit into the next one for the colours between two samples."""
_ROWS_AT_ONCE = 64


class ImageError(Exception):
    """A file that cannot be used as an image."""


class NotAnImageError(ImageError):
    """It is of none of `FORMATS`, cut off or corrupt."""


class ImageTooLargeError(ImageError):
    """It has more bytes, pixels, scans or frames than we decode, or a side that WebP cannot hold."""


def opened(file: BinaryIO) -> Image.Image:
    """Return an image whose pixels are still to be decoded, from the file, within `decoding`.

    Raises:
        NotAnImageError: It is no image of a known format, or a broken one.
        ImageTooLargeError: It has too many bytes, pixels or scans.
        OSError: The file cannot be read.
    """
    if os.fstat(file.fileno()).st_size > MAX_SOURCE_BYTES:
        raise ImageTooLargeError
    with decoding():
        magic = file.read(len(png.MAGIC))
        file.seek(0)
        if magic == png.MAGIC:
            return _opened_png(png.reduced(file))
        if magic.startswith(jpeg.MAGIC):
            return _opened_plainly(_with_end(file))
        return _opened_plainly(file)


def _opened_plainly(file: BinaryIO) -> Image.Image:
    image = Image.open(file, formats=FORMATS)
    check_pixels(image)
    pillow.decode_alpha(image)
    # Pillow takes its word for how TIFFs are turned, which browsers do not.
    image.info.pop("xmp", None)
    return image


def _opened_png(file: BinaryIO) -> Image.Image:
    pillow.allow_profiles(png.MAX_PROFILE_BYTES)
    transparent = png.deep_transparent_colour(file)
    image = _opened_plainly(file)
    if transparent is None:
        return image
    # Pillow drops the lower bytes, by which alone the transparent colour may differ from others.
    image.load()
    del image.info["transparency"]
    file.seek(0)
    lower = _opened_plainly(file)
    pillow.decode_low_bytes(lower)
    opaque = ImageChops.lighter(
        _differs(image, [value >> 8 for value in transparent]), _differs(lower, [value & 0xFF for value in transparent])
    )
    image.putalpha(opaque)
    return image


def _differs(image: Image.Image, colour: list[int]) -> Image.Image:
    """Return where an RGB image has another colour than this one, as white."""
    red, green, blue = (
        band.point([0 if value == wanted else 255 for value in range(256)])
        for band, wanted in zip(image.split(), colour, strict=True)
    )
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


def _with_end(file: BinaryIO) -> BinaryIO:
    """Return a JPEG with an end marker, if no more is missing than that and the end of the last row of units."""
    content = file.read()
    file.seek(0)
    layout = jpeg.layout_of(content)
    if layout.scans > MAX_SCANS:
        raise ImageTooLargeError
    if layout.ends:
        return file
    if not layout.all_scans:
        raise NotAnImageError
    first, *others = jpeg.endings(content)
    above, last_row, pixels = _digest_and_last_row(first, layout.unit_height)
    for other in others:
        other_above, other_row, _ = _digest_and_last_row(other, layout.unit_height)
        end = _end_of_same(last_row, other_row)
        missing = (last_row.width - end) * last_row.height
        if other_above != above or not end or missing > pixels * _MOST_MISSING:
            raise NotAnImageError
    return BytesIO(first)


def _digest_and_last_row(content: bytes, unit_height: int) -> tuple[bytes, Image.Image, int]:
    """Decode a JPEG; return a digest of all above its last row of units, that row, and the number of all its pixels."""
    image = _opened_plainly(BytesIO(content))
    image.load()
    bottom = max(0, (image.height - 1) // unit_height * unit_height - _SMOOTHED_ROWS)
    digest = hashlib.blake2b()
    for top in range(0, bottom, _ROWS_AT_ONCE):
        digest.update(image.crop((0, top, image.width, min(top + _ROWS_AT_ONCE, bottom))).tobytes())
    return digest.digest(), image.crop((0, bottom, *image.size)), image.width * image.height


def _end_of_same(image: Image.Image, other: Image.Image) -> int:
    """Return how many columns of two images are the same, from the left."""
    different = ImageChops.difference(image, other).getbbox()
    return image.width if different is None else different[0]


@contextmanager
def decoding() -> Iterator[None]:
    """Turn what decoders raise into our errors.

    Raises:
        NotAnImageError: The image is broken.
        ImageTooLargeError: It has too many pixels.
        OSError: The operating system failed.
    """
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError from error
    except Exception as error:
        # Decoders raise whatever hostile bytes lead them to; only the system's own errors carry a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise NotAnImageError from error


def check_pixels(image: Image.Image) -> None:
    """Make sure that the present frame is small enough to be decoded.

    Raises:
        ImageTooLargeError: It has more than `MAX_PIXELS`.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ImageTooLargeError
