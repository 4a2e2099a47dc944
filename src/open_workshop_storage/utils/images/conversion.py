"""Makes plain WebP, or a hash for a blurred preview, of pictures of unknown origin. All of it blocks."""

from __future__ import annotations

from typing import BinaryIO

import blurhash as blurhash_python  # type: ignore[import-untyped]
from PIL import ExifTags, Image

from open_workshop_storage.utils.images.colours import opaque, srgb
from open_workshop_storage.utils.images.decoding import MAX_PIXELS, ImageTooLargeError, check_pixels, decoding, opened
from open_workshop_storage.utils.images.pillow import become, keep_palette

_BLURHASH_COMPONENTS = (4, 3)
_BLURHASH_SIDE = 64
_QUALITY = 90
# Pillow's scale from 0 to 6. From 3 on, libwebp keeps its decisions in memory until the end: 89 megapixels of noise
# then take 2.3 GB and a minute, and at 2 a third and a sixth of that.
_EFFORT = 4
_EFFORT_ON_LARGE = 2
_LARGE_PIXELS = 1 << 24
# RFC 9649, section 2.7.1.
_VP8X_FLAGS = 20
_VP8X_ALPHA = 0x10

MAX_FRAMES = 10_000
MAX_PIXELS_IN_ALL = 4 * MAX_PIXELS
"""Summed over the frames of an animation, which take their time one after the other but not memory at once."""

MAX_SIDE = 16_383
"""In pixels; WebP holds no more (RFC 9649, section 2.6)."""

# JPEG and TIFF may hold several pictures too, but those are pages, previews or depth maps.
_ANIMATED_FORMATS = frozenset({"PNG", "WEBP", "GIF", "AVIF"})
# The clock of WebP's encoder ends at 2**31 ms, which the last of `MAX_FRAMES` must not pass.
_MAX_FRAME_MILLISECONDS = 200_000
_MAX_LOOPS = 0xFFFF
"""WebP counts in 16 bits (RFC 9649, section 2.7.1)."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation (EXIF 2.32, tag 0x0112)."""


def normalise(source: BinaryIO, target: BinaryIO) -> None:
    """Write an image as WebP: upright, in sRGB, without metadata, with its transparency and its animation.

    Args:
        target: An empty file, open for reading and writing. Holds part of the result if this raises.

    Raises:
        NotAnImageError: It is no image of a known format, or a broken one.
        ImageTooLargeError: It has more bytes, pixels or frames than we decode, or a side that WebP cannot hold.
        OSError: A file cannot be read or written.
    """
    frames = _Frames(opened(source))
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
        image.draft(None, (2 * _BLURHASH_SIDE, 2 * _BLURHASH_SIDE))
        image.load()
        small = opaque(image)
    small.thumbnail((_BLURHASH_SIDE, _BLURHASH_SIDE))
    # The library calls `getdata`, which Pillow warns about; the new name does the same.
    setattr(small, "getdata", small.get_flattened_data)
    return blurhash_python.encode(small, *_BLURHASH_COMPONENTS), width, height


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


class _Frames(Image.Image):
    """An image's frames as Pillow's writer asks for them. Memory is that of one frame, whatever their number.

    All frames are decoded once when this is made, so that a broken one is found before anything is written.

    Args:
        source: As `opened` returns it.

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
        with decoding():
            self.n_frames, self._first = _count_frames(source)
            self.durations = [self._decode(index) for index in range(self.n_frames)]
            self._turn = _upright(source)
        self.loop = _loops(source)
        self.transparent = False
        self.seek(0)

    def _decode(self, frame: int) -> float:
        """Decode a frame, and return its duration in milliseconds."""
        self._source.seek(self._first + frame)
        check_pixels(self._source)
        keep_palette(self._source)
        self._source.load()
        duration: float = self._source.info.get("duration", 0)
        return max(0, min(duration, _MAX_FRAME_MILLISECONDS))

    def seek(self, frame: int) -> None:
        """Become the frame of this number, which counts from 0."""
        with decoding():
            self._decode(frame)
            picture = self._source
            if picture.size != self._canvas[2:]:
                # A GIF's frame may reach over its edge.
                picture = picture.crop(self._canvas)
            picture = srgb(picture)
        if self._turn is not None:
            picture = picture.transpose(self._turn)
        self.transparent |= picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255)
        become(self, picture)
        self._frame = frame

    def tell(self) -> int:
        """Return the number of the present frame."""
        return self._frame


def _count_frames(image: Image.Image) -> tuple[int, int]:
    """Return how many frames are shown, and the number of the first of them."""
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


def _loops(image: Image.Image) -> int:
    if image.format == "AVIF":
        return 0
    loop: int = image.info.get("loop", 1)
    if image.format == "GIF" and "loop" in image.info and loop:
        # GIF counts repetitions, WebP and APNG count how often it is shown in all.
        loop += 1
    return min(loop, _MAX_LOOPS)


def _upright(image: Image.Image) -> Image.Transpose | None:
    """Return what turns a picture upright, by its EXIF alone, as browsers do; None if nothing has to be done."""
    exif = Image.Exif()
    try:
        # `getexif` would look into XMP too, and Pillow has turned TIFFs already.
        exif.load(image.info.get("exif", b""))
        return _UPRIGHT.get(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Broken metadata, of which the parser may make anything, do not break the picture.
        return None
