"""Pictures that strangers send: made over into plain WebP, or hashed for a blurred preview. All of it blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import blurhash as blurhash_python  # type: ignore[import-untyped]
from PIL import ExifTags, Image, WebPImagePlugin

from open_workshop_storage.utils.images.colours import opaque, srgb

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What counts as an image, by Pillow's names: what browsers show and cameras write, and no other decoder runs."""

MAX_SOURCE_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 89_478_485
"""Of one frame; where Pillow begins to suspect a decompression bomb."""

MAX_PIXELS_IN_ALL = 4 * MAX_PIXELS
"""Summed over the frames of an animation, which take their time one after the other but not memory at once."""

MAX_FRAMES = 10_000
MAX_SIDE = 16_383
"""In pixels; WebP holds no more (RFC 9649, section 2.6)."""

BLURHASH_COMPONENTS = (4, 3)
BLURHASH_SIDE = 64

_QUALITY = 90
# Pillow's scale from 0 to 6. From 3 on, libwebp keeps its decisions in memory until the end: 89 megapixels of noise
# then take 2.3 GB and a minute, and at 2 a third and a sixth of that.
_EFFORT = 4
_EFFORT_ON_LARGE = 2
_LARGE_PIXELS = 1 << 24
_VP8X_FLAGS = 20
_VP8X_ALPHA = 0x10
# JPEG and TIFF may hold several pictures too, but those are pages, previews or depth maps.
_ANIMATED_FORMATS = frozenset({"PNG", "WEBP", "GIF", "AVIF"})
# The clock of WebP's encoder ends at 2**31 ms, which the last of `MAX_FRAMES` must not pass.
_MAX_FRAME_MILLISECONDS = 200_000

# EXIF 2.32, tag 0x0112: what undoes each orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(Exception):
    """A file that cannot be used as an image."""


class NotAnImageError(ImageError):
    """It is of none of `FORMATS`, cut off or corrupt."""


class ImageTooLargeError(ImageError):
    """It has more bytes, pixels or frames than we decode, or a side that WebP cannot hold."""


def normalise(source: BinaryIO, target: BinaryIO) -> None:
    """Write an image as WebP: upright, in sRGB, without metadata, with its transparency and its animation.

    Args:
        source: Open for reading.
        target: An empty file, open for reading and writing. Holds part of the result if this raises.

    Raises:
        NotAnImageError: It is no image of a known format, or a broken one.
        ImageTooLargeError: It has more bytes, pixels or frames than are decoded.
        OSError: A file cannot be read or written.
    """
    with _opened(source) as image:
        frames = Frames(image)
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
        ImageTooLargeError: It has more bytes or pixels than are decoded.
        OSError: The file cannot be read.
    """
    with _opened(source) as image:
        width, height = image.size
        with _decoding():
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

    libwebp crops an animation's frames to what is not transparent, and when opaque rectangles are left it declares
    the whole opaque.
    """
    file.seek(0)
    header = file.read(_VP8X_FLAGS + 1)
    if header[12:16] == b"VP8X":
        file.seek(_VP8X_FLAGS)
        file.write(bytes([header[_VP8X_FLAGS] | _VP8X_ALPHA]))


def _see_transparency(image: Image.Image) -> None:
    """Have an animated WebP decoded with its alpha even where its header declares it opaque.

    What its frames leave uncovered is transparent, and libwebp's header does not tell: see `_flag_transparency`.
    """
    if isinstance(image, WebPImagePlugin.WebPImageFile) and image.is_animated:
        image.rawmode = image._mode = "RGBA"


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    if os.fstat(file.fileno()).st_size > MAX_SOURCE_BYTES:
        raise ImageTooLargeError
    with _decoding():
        image = Image.open(file, formats=FORMATS)
        _check_frame(image)
        _see_transparency(image)
    yield image


@contextmanager
def _decoding() -> Iterator[None]:
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


def _check_frame(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageTooLargeError


class Frames(Image.Image):
    """An image's frames as Pillow's writer asks for them: one at a time is made, whatever their number.

    Attributes:
        n_frames: 1 for a still.
        durations: Of each frame, in milliseconds.
        loop: How often the animation plays, 0 for ever.
        transparent: Whether a frame made so far has a pixel that is not opaque.
    """

    def __init__(self, source: Image.Image) -> None:
        super().__init__()
        self._source = source
        self._canvas = (0, 0, *source.size)
        with _decoding():
            self.n_frames, self._first = _count_frames(source)
            self.durations = [self._decode(index) for index in range(self.n_frames)]
            self._turn = _UPRIGHT.get(_orientation(source))
        self.loop = _plays(source)
        self.transparent = False
        self.seek(0)

    def _decode(self, frame: int) -> float:
        self._source.seek(self._first + frame)
        _check_frame(self._source)
        self._source.load()
        duration: float = self._source.info.get("duration", 0)
        return max(0, min(duration, _MAX_FRAME_MILLISECONDS))

    def seek(self, frame: int) -> None:
        """Become the frame of this number."""
        with _decoding():
            self._decode(frame)
        picture = self._source
        if picture.size != self._canvas[2:]:
            # A GIF's frame may reach over its edge.
            picture = picture.crop(self._canvas)
        picture = srgb(picture)
        if self._turn is not None:
            picture = picture.transpose(self._turn)
        self.transparent |= picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255)
        self._mode, self._size, self.im = picture.mode, picture.size, picture.im
        self._frame = frame

    def tell(self) -> int:
        """Return the number of the present frame."""
        return self._frame


def _count_frames(image: Image.Image) -> tuple[int, int]:
    """Return how many frames are shown, and the number of the first of them.

    Raises:
        ImageTooLargeError: They are more than we decode.
    """
    if max(image.size) > MAX_SIDE:
        raise ImageTooLargeError
    if image.format not in _ANIMATED_FORMATS:
        return 1, 0
    count: int = getattr(image, "n_frames", 1)
    # APNG may hold a picture for programs that know no animation, which is then not part of it.
    first = 1 if image.info.get("default_image") else 0
    if count > MAX_FRAMES or count * image.width * image.height > MAX_PIXELS_IN_ALL:
        raise ImageTooLargeError
    return count - first, first


def _orientation(image: Image.Image) -> int:
    try:
        value: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        # Broken metadata, of which the parser may make anything, do not break the picture.
        return 1
    return value


def _plays(image: Image.Image) -> int:
    if image.format == "AVIF":
        return 0
    loop: int = image.info.get("loop", 1)
    if image.format == "GIF" and "loop" in image.info and loop:
        # GIF counts repetitions, WebP and APNG count how often it is shown in all.
        loop += 1
    return min(loop, 0xFFFF)
