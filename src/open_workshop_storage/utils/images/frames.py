"""The frames of an image or an animation: upright, in sRGB, decoded one at a time."""

from __future__ import annotations

from PIL import ExifTags, Image

from open_workshop_storage.utils.images.colours import srgb
from open_workshop_storage.utils.images.decoding import MAX_PIXELS, ImageTooLargeError, check_pixels, decoding
from open_workshop_storage.utils.images.pillow import become, keep_palette

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


class Frames(Image.Image):
    """An image's frames as Pillow's writer asks for them. Memory is that of one frame, whatever their number.

    All frames are decoded once when this is made, so that a broken one is found before anything is written.

    Args:
        source: Opened by `utils/images/decoding.py`.

    Attributes:
        n_frames: 1 for a still.
        durations: Of each frame, in milliseconds.
        loop: How often the animation plays, 0 for ever.
        transparent: Whether a frame made so far has a pixel that is not opaque.

    Raises:
        NotAnImageError: A frame is broken.
        ImageTooLargeError: There are too many frames, or they have too many pixels.
        OSError: The file cannot be read.
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
