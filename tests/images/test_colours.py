"""Colours, profiles and transparency."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from tests.images.profiles import display_p3, green_magenta, linear_grey
from tests.support.images import Normalised, assert_colour, quarters, saved


@pytest.mark.parametrize(
    ("image", "image_format", "expected"),
    [
        (Image.new("RGB", (9, 9), (200, 30, 60)), "PNG", (200, 30, 60)),
        (Image.new("RGB", (9, 9), (200, 30, 60)), "BMP", (200, 30, 60)),
        (Image.new("RGB", (9, 9), (200, 30, 60)), "AVIF", (200, 30, 60)),
        (Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.new("CMYK", (9, 9), (255, 0, 0, 0)), "TIFF", (0, 255, 255)),
        (Image.new("L", (9, 9), 90), "JPEG", (90, 90, 90)),
        (Image.new("1", (9, 9), 1), "PNG", (255, 255, 255)),
        (Image.new("I;16", (9, 9), 40_000), "PNG", (156, 156, 156)),
        (Image.new("I;16", (9, 9), 40_000), "TIFF", (156, 156, 156)),
        (Image.new("F", (9, 9), 90.0), "TIFF", (90, 90, 90)),
        (Image.new("RGB", (9, 9), (0, 0, 255)).convert("P"), "PNG", (0, 0, 255)),
        (Image.new("YCbCr", (9, 9), (90, 128, 128)), "TIFF", (90, 90, 90)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_kind_of_pixel_becomes_rgb(
    image: Image.Image, image_format: str, expected: tuple[int, ...], normalised: Normalised
) -> None:
    assert_colour(normalised(saved(image, image_format)), expected)


def test_grey_that_is_multiplied_with_its_transparency_becomes_rgb(normalised: Normalised) -> None:
    content = saved(Image.new("LA", (9, 9), (60, 153)), "TIFF")
    # TIFF 6.0, section 18: ExtraSamples, one of them, which tells how it is meant.
    unassociated = struct.pack("<HHIH", 338, 3, 1, 2)
    assert unassociated in content
    associated = content.replace(unassociated, struct.pack("<HHIH", 338, 3, 1, 1))
    assert_colour(normalised(associated), (100, 100, 100, 153))


# What P3's (200, 100, 100) and 55 of linear grey are in sRGB follows from the definitions of both spaces.
@pytest.mark.parametrize(
    ("image", "image_format", "profile", "expected"),
    [
        (Image.new("RGB", (9, 9), (200, 100, 100)), "PNG", display_p3(), (216, 95, 96)),
        (Image.new("RGB", (9, 9), (200, 100, 100)), "JPEG", display_p3(), (216, 95, 96)),
        (Image.new("RGBA", (9, 9), (200, 100, 100, 77)), "PNG", display_p3(), (216, 95, 96, 77)),
        (Image.new("RGB", (9, 9), (0, 255, 0)), "WEBP", display_p3(), (0, 255, 0)),
        (Image.new("L", (9, 9), 55), "PNG", linear_grey(), (128, 128, 128)),
        (Image.new("LA", (9, 9), (55, 77)), "PNG", linear_grey(), (128, 128, 128, 77)),
        (Image.new("CMYK", (9, 9), (0, 255, 0, 0)), "JPEG", green_magenta(), (0, 147, 0)),
        (Image.new("CMYK", (9, 9), (255, 0, 0, 0)), "TIFF", green_magenta(), (255, 255, 255)),
    ],
)
def test_colours_are_converted_by_the_embedded_profile(
    image: Image.Image, image_format: str, profile: bytes, expected: tuple[int, ...], normalised: Normalised
) -> None:
    assert_colour(normalised(saved(image, image_format, icc_profile=profile)), expected)


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(b"no profile at all", id="no profile"),
        pytest.param(display_p3()[:200], id="cut off"),
        pytest.param(display_p3().replace(b"RGB ", b"\xff\xff\xff\xff"), id="no colour space"),
        pytest.param(linear_grey(), id="of grey"),
        pytest.param(green_magenta(), id="of CMYK"),
    ],
)
def test_a_profile_that_is_broken_or_of_another_kind_is_ignored(profile: bytes, normalised: Normalised) -> None:
    image = Image.new("RGB", (9, 9), (200, 100, 100))
    assert_colour(normalised(saved(image, "PNG", icc_profile=profile)), (200, 100, 100))


def palette_with_alpha() -> Image.Image:
    image = Image.new("P", (9, 9), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    return image


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (saved(Image.new("RGBA", (9, 9), (200, 30, 60, 128)), "PNG"), (200, 30, 60, 128)),
        (saved(Image.new("RGBA", (9, 9), (200, 30, 60, 128)), "WEBP", lossless=True), (200, 30, 60, 128)),
        (saved(Image.new("RGBA", (9, 9), (200, 30, 60, 128)), "TIFF"), (200, 30, 60, 128)),
        (saved(Image.new("RGBA", (9, 9), (200, 30, 60, 128)), "AVIF", quality=100), (200, 30, 60, 128)),
        (saved(Image.new("LA", (9, 9), (90, 128)), "PNG"), (90, 90, 90, 128)),
        (saved(palette_with_alpha(), "PNG", transparency=bytes((255, 128))), (0, 0, 255, 128)),
    ],
)
def test_transparency_is_kept(content: bytes, expected: tuple[int, ...], normalised: Normalised) -> None:
    assert_colour(normalised(content), expected)


@pytest.mark.parametrize(
    "content",
    [
        saved(palette_with_alpha(), "PNG", transparency=1),
        saved(palette_with_alpha(), "GIF", transparency=1),
        saved(Image.new("L", (9, 9), 90), "PNG", transparency=90),
        saved(Image.new("I;16", (9, 9), 40_000), "PNG", transparency=40_000),
        saved(Image.new("RGB", (9, 9), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
    ],
)
def test_a_colour_that_stands_for_transparency_becomes_transparent(content: bytes, normalised: Normalised) -> None:
    image = normalised(content)
    assert image.mode == "RGBA"
    assert image.getchannel("A").getextrema() == (0, 0)


def test_an_opaque_image_has_no_alpha_channel(normalised: Normalised) -> None:
    assert normalised(saved(quarters(), "PNG")).mode == "RGB"
