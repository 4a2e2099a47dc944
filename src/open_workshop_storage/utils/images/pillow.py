"""What we know of Pillow's insides; tests/images/test_pillow.py fails when an upgrade changes it."""

from __future__ import annotations

from PIL import Image, PngImagePlugin, WebPImagePlugin


def become(image: Image.Image, other: Image.Image) -> None:
    """Give an image, which may be of a subclass, the pixels of another one."""
    image._mode, image._size, image.im = other.mode, other.size, other.im


def allow_profiles(size: int) -> None:
    """Let profiles of PNGs have as many bytes, for all of this process."""
    PngImagePlugin.MAX_TEXT_CHUNK = size


def decode_low_bytes(image: Image.Image) -> None:
    """Have a PNG of 16 bits decoded as RGB of the lower bytes, which Pillow drops, instead of the upper ones."""
    assert isinstance(image, PngImagePlugin.PngImageFile)
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]


def keep_palette(image: Image.Image) -> None:
    """Have an animated PNG decoded with its palette after it is rewound, when Pillow thinks that it has it already."""
    if isinstance(image, PngImagePlugin.PngImageFile) and image.palette is not None:
        image.palette.dirty = 1


def decode_alpha(image: Image.Image) -> None:
    """Have an animated WebP decoded with its alpha, even where its header declares it opaque.

    What its frames leave uncovered is transparent, and libwebp's header does not tell: it crops frames to what is not
    transparent, and declares the whole opaque where opaque rectangles are left.
    """
    if isinstance(image, WebPImagePlugin.WebPImageFile) and image.is_animated:
        image.rawmode = image._mode = "RGBA"
