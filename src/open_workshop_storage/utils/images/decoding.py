"""Opens the images that are taken, within limits, and tells broken ones from other failures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image

from open_workshop_storage.utils.images.pillow import decode_alpha

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""The formats that are taken, by Pillow's names: what browsers show and cameras write. No other decoder runs."""

MAX_SOURCE_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 89_478_485
"""Of one frame; where Pillow begins to suspect a decompression bomb."""


class ImageError(Exception):
    """A file that cannot be used as an image."""


class NotAnImageError(ImageError):
    """It is of none of `FORMATS`, cut off or corrupt."""


class ImageTooLargeError(ImageError):
    """It has more bytes, pixels or frames than we decode, or a side that WebP cannot hold."""


def opened(file: BinaryIO) -> Image.Image:
    """Return an image whose pixels are still to be decoded, from the file, within `decoding`.

    Raises:
        NotAnImageError: It is no image of a known format, or a broken one.
        ImageTooLargeError: It has too many bytes or pixels.
        OSError: The file cannot be read.
    """
    if os.fstat(file.fileno()).st_size > MAX_SOURCE_BYTES:
        raise ImageTooLargeError
    with decoding():
        image = Image.open(file, formats=FORMATS)
        check_pixels(image)
        decode_alpha(image)
        return image


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
