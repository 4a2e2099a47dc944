"""Opens the images that are taken, within limits, and tells broken ones from other failures."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
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
"""Of a JPEG's pixels; else it counts as cut in the middle."""
_TILE_SIDE = 16
"""Two blocks of coefficients: of a gradient, each may have one colour until its last bit has come."""
_SMOOTHED_ROWS = 1
"""How far decoders look from a unit into the next one for the colours between two samples."""
_ROWS_AT_ONCE = 64
_MOST_ZEROS = 4
"""How many bytes of zero at its end may be a JPEG's data; one is common where a picture is plain."""
_NO_SUCH_POSITION = frozenset({None, errno.EINVAL, errno.EOVERFLOW})
"""What decoders get that look where no file can have anything, besides errors of their own."""


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
            return _opened_png(*png.reduced(file))
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


def _opened_png(file: BinaryIO, transparent: tuple[int, int, int] | None) -> Image.Image:
    pillow.allow_profiles(png.MAX_PROFILE_BYTES)
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
    """Return a JPEG with an end marker, if hardly more is missing than that.

    The end of the last row of units may be missing, and the last bit of coefficients where the picture is plain.
    """
    # Programs that set aside space for a file fill it with zeros.
    content = file.read()
    size = len(content.rstrip(b"\0"))
    file.seek(0)
    layout = jpeg.layout_of(content[:size])
    if layout.scans > MAX_SCANS:
        raise ImageTooLargeError
    if layout.ends:
        return file
    if not (layout.all_scans or layout.lacks_one_bit):
        raise NotAnImageError
    # Data of a scan may end with zeros, too.
    first, *others = jpeg.endings(content[: size + _MOST_ZEROS if layout.end == size else layout.end])
    image = _loaded(first)
    last_row = max(0, (image.height - 1) // layout.unit_height * layout.unit_height - _SMOOTHED_ROWS)
    left, top = image.width, image.height
    for other in others:
        # Where they differ is what is missing.
        different = ImageChops.difference(image, _loaded(other)).getbbox()
        if different is not None:
            left, top = min(left, different[0]), min(top, different[1])
    missing = (image.width - left) * (image.height - top)
    if top < last_row or not left or not layout.all_scans:
        if not layout.lacks_one_bit or (missing and not layout.all_scans):
            raise NotAnImageError
        missing = _detailed_pixels(image, top if layout.all_scans else 0)
    if missing > image.width * image.height * _MOST_MISSING:
        raise NotAnImageError
    return BytesIO(first)


def _loaded(content: bytes) -> Image.Image:
    image = _opened_plainly(BytesIO(content))
    image.load()
    return image


def _detailed_pixels(image: Image.Image, top: int) -> int:
    """Return how many pixels, from a row on, have not the colour of all their tile."""
    count = 0
    for start in range(top // _TILE_SIDE * _TILE_SIDE, image.height, _ROWS_AT_ONCE):
        rows = image.crop((0, start, image.width, min(start + _ROWS_AT_ONCE, image.height)))
        means = rows.reduce(_TILE_SIDE)
        size = (means.width * _TILE_SIDE, means.height * _TILE_SIDE)
        plain = means.resize(size, Image.Resampling.NEAREST).crop((0, 0, *rows.size))
        distance = reduce(ImageChops.lighter, ImageChops.difference(rows, plain).split())
        count += sum(distance.crop((0, max(0, top - start), *rows.size)).histogram()[1:])
    return count


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
        if isinstance(error, OSError) and error.errno not in _NO_SUCH_POSITION:
            raise
        raise NotAnImageError from error


def check_pixels(image: Image.Image) -> None:
    """Make sure that the present frame is small enough to be decoded.

    Raises:
        ImageTooLargeError: It has more than `MAX_PIXELS`.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ImageTooLargeError
