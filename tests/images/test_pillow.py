"""Pillow's insides are as `utils/images/pillow.py` takes them to be."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from open_workshop_storage.utils.images.pillow import (
    allow_profiles,
    become,
    decode_alpha,
    decode_low_bytes,
    keep_palette,
)
from tests.images.profiles import display_p3
from tests.support.images import saved
from tests.support.pngs import RGB, plain, png


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


def test_pillow_takes_profiles_of_the_size_that_is_allowed() -> None:
    with_profile = saved(Image.open(BytesIO(plain())), "PNG", icc_profile=display_p3())
    allow_profiles(len(display_p3()) - 1)
    with pytest.raises(ValueError, match="too large"):
        Image.open(BytesIO(with_profile))
    allow_profiles(len(display_p3()))
    assert Image.open(BytesIO(with_profile)).info["icc_profile"] == display_p3()


def test_the_low_bytes_of_16_bits_are_decoded_instead_of_the_high_ones() -> None:
    content = png(1, 16, RGB, [bytes((1, 2, 3, 4, 5, 6))])
    assert Image.open(BytesIO(content)).getpixel((0, 0)) == (1, 3, 5)
    image = Image.open(BytesIO(content))
    decode_low_bytes(image)
    assert image.getpixel((0, 0)) == (2, 4, 6)


def test_a_rewound_animation_keeps_its_palette_and_would_lose_it() -> None:
    frames = [Image.new("P", (8, 8), colour) for colour in (1, 2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 250, 20, 20, 20, 250, 20])
    image = Image.open(BytesIO(saved(frames[0], "PNG", save_all=True, append_images=frames[1:])))
    for number, keep, colour in ((1, False, (20, 250, 20)), (0, False, (0, 0, 0)), (0, True, (250, 20, 20))):
        image.seek(1 - number)
        image.seek(number)
        if keep:
            keep_palette(image)
        assert image.convert("RGB").getpixel((0, 0)) == colour
