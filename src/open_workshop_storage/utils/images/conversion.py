"""Makes plain WebP, or a hash for a blurred preview, of pictures of unknown origin. All of it blocks."""

from __future__ import annotations

from typing import BinaryIO

import blurhash as blurhash_python  # type: ignore[import-untyped]

from open_workshop_storage.utils.images.colours import opaque
from open_workshop_storage.utils.images.decoding import decoding, opened
from open_workshop_storage.utils.images.frames import Frames

BLURHASH_COMPONENTS = (4, 3)
BLURHASH_SIDE = 64

_QUALITY = 90
# Pillow's scale from 0 to 6. From 3 on, libwebp keeps its decisions in memory until the end: 89 megapixels of noise
# then take 2.3 GB and a minute, and at 2 a third and a sixth of that.
_EFFORT = 4
_EFFORT_ON_LARGE = 2
_LARGE_PIXELS = 1 << 24
# RFC 9649, section 2.7.1.
_VP8X_FLAGS = 20
_VP8X_ALPHA = 0x10


def normalise(source: BinaryIO, target: BinaryIO) -> None:
    """Write an image as WebP: upright, in sRGB, without metadata, with its transparency and its animation.

    Args:
        target: An empty file, open for reading and writing. Holds part of the result if this raises.

    Raises:
        NotAnImageError: It is no image of a known format, or a broken one.
        ImageTooLargeError: It has more bytes, pixels or frames than we decode, or a side that WebP cannot hold.
        OSError: A file cannot be read or written.
    """
    frames = Frames(opened(source))
    # One quality for all sources: photographs sent as PNG are common, and alpha is lossless at any.
    frames.save(
        target,
        "WEBP",
        save_all=True,
        duration=frames.durations,
        loop=frames.loop,
        quality=_QUALITY,
        method=_EFFORT if frames.width * frames.height < _LARGE_PIXELS else _EFFORT_ON_LARGE,
    )
    if frames.transparent:
        _flag_transparency(target)


def blurhash(source: BinaryIO) -> tuple[str, int, int]:
    """Return an image's BlurHash, and its width and height in pixels as they are stored.

    Transparency is ignored, and of an animation the first frame counts.

    Raises:
        NotAnImageError: It is no image of a known format, or a broken one.
        ImageTooLargeError: It has more bytes or pixels than we decode.
        OSError: The file cannot be read.
    """
    image = opened(source)
    width, height = image.size
    with decoding():
        # Lets a JPEG be decoded at an eighth of its size or so; other formats know no such thing.
        image.draft(None, (2 * BLURHASH_SIDE, 2 * BLURHASH_SIDE))
        image.load()
        small = opaque(image)
    small.thumbnail((BLURHASH_SIDE, BLURHASH_SIDE))
    # The library calls `getdata`, which Pillow warns about; the new name does the same.
    setattr(small, "getdata", small.get_flattened_data)
    return blurhash_python.encode(small, *BLURHASH_COMPONENTS), width, height


def _flag_transparency(file: BinaryIO) -> None:
    """Say in a WebP's header that it has transparency (RFC 9649, section 2.7.1).

    libwebp crops an animation's frames to what is not transparent, and where opaque rectangles are left it declares the
    whole opaque.
    """
    file.seek(0)
    header = file.read(_VP8X_FLAGS + 1)
    if header[12:16] == b"VP8X":
        file.seek(_VP8X_FLAGS)
        file.write(bytes([header[_VP8X_FLAGS] | _VP8X_ALPHA]))
