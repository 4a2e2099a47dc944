"""Pillow's insides are as `utils/images/pillow.py` takes them to be."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from open_workshop_storage.utils.images.pillow import become, decode_alpha
from tests.support.images import saved


class Canvas(Image.Image):
    """A subclass, as a writer of several frames is given."""


def test_an_image_becomes_another_one() -> None:
    canvas = Canvas()
    become(canvas, Image.new("RGBA", (3, 2), (1, 2, 3, 4)))
    assert (canvas.mode, canvas.size, canvas.getpixel((2, 1))) == ("RGBA", (3, 2), (1, 2, 3, 4))


def animated_webp() -> Image.Image:
    """Return an animation that is declared opaque though its second frame leaves all but a corner transparent."""
    frames = [Image.new("RGBA", (8, 8)) for _ in range(2)]
    for frame, place in zip(frames, [(0, 0, 4, 4), (4, 4, 8, 8)], strict=True):
        frame.paste((255, 0, 0, 255), place)
    return Image.open(BytesIO(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)))


def test_pillow_does_not_see_the_transparency_of_such_an_animation_by_itself() -> None:
    assert animated_webp().mode == "RGB"


def test_the_alpha_of_such_an_animation_is_decoded() -> None:
    image = animated_webp()
    decode_alpha(image)
    assert image.mode == "RGBA"
    assert (image.getpixel((0, 0)), image.getpixel((7, 7))) == ((255, 0, 0, 255), (0, 0, 0, 0))
