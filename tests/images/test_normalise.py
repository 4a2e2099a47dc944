"""Normalising still images."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.images.profiles import display_p3, green_magenta, linear_grey
from tests.support.images import normalise, saved

ORIENTATION = 0x0112
MAKER = 0x010F

# What the lossy encoder may change in a plain area.
TOLERANCE = 4

Normalised = Callable[[bytes], Image.Image]


@pytest.fixture
def normalised(tmp_path: Path) -> Normalised:
    """Normalises what a file contains, and opens the result."""

    def run(content: bytes) -> Image.Image:
        source, target = tmp_path / "source", tmp_path / "target.webp"
        source.write_bytes(content)
        normalise(source, target)
        image = Image.open(BytesIO(target.read_bytes()), formats=["WEBP"])
        image.load()
        return image

    return run


def assert_colour(image: Image.Image, expected: tuple[int, ...], at: tuple[int, int] = (3, 3)) -> None:
    found = image.getpixel(at)
    assert isinstance(found, tuple)
    assert len(found) == len(expected)
    assert all(abs(a - b) <= TOLERANCE for a, b in zip(found, expected, strict=True)), found


def quarters() -> Image.Image:
    """Return a picture of 64×48 whose four quarters tell which way it is turned."""
    image = Image.new("RGB", (64, 48), "red")
    image.paste("blue", (32, 0, 64, 24))
    image.paste("white", (0, 24, 32, 48))
    image.paste("black", (32, 24, 64, 48))
    return image


def assert_upright(image: Image.Image) -> None:
    assert image.size == (64, 48)
    assert_colour(image, (255, 0, 0), (8, 8))
    assert_colour(image, (0, 0, 255), (56, 8))
    assert_colour(image, (255, 255, 255), (8, 40))
    assert_colour(image, (0, 0, 0), (56, 40))


@pytest.mark.parametrize(
    ("orientation", "as_stored"),
    [
        (1, lambda image: image),
        (2, lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        (3, lambda image: image.rotate(180)),
        (4, lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
        (5, lambda image: image.transpose(Image.Transpose.TRANSPOSE)),
        (6, lambda image: image.rotate(90, expand=True)),
        (7, lambda image: image.transpose(Image.Transpose.TRANSVERSE)),
        (8, lambda image: image.rotate(-90, expand=True)),
    ],
)
def test_exif_orientation_is_applied(
    orientation: int, as_stored: Callable[[Image.Image], Image.Image], normalised: Normalised
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    # 4:4:4, so that the quarters' edges stay sharp.
    assert_upright(normalised(saved(as_stored(quarters()), "JPEG", exif=exif, subsampling=0, quality=95)))


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_whatever_the_format(image_format: str, normalised: Normalised) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert_upright(normalised(saved(quarters().rotate(90, expand=True), image_format, exif=exif)))


def test_an_image_with_broken_exif_is_taken_as_upright(normalised: Normalised) -> None:
    assert_upright(normalised(saved(quarters(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")))


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


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_all_metadata_are_dropped(image_format: str, normalised: Normalised, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[MAKER] = "the camera's maker"
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>the place</x:xmpmeta>"
    image = normalised(saved(quarters(), image_format, exif=exif, xmp=xmp, icc_profile=display_p3(), comment="c"))
    assert not {"exif", "icc_profile", "xmp", "comment"} & image.info.keys()
    content = (tmp_path / "target.webp").read_bytes()
    assert not any(text in content for text in (b"EXIF", b"XMP ", b"ICCP", b"maker", b"place"))


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


def test_of_several_pages_the_first_is_taken(normalised: Normalised) -> None:
    other = Image.new("RGB", (64, 48), "green")
    for image_format in ("TIFF", "MPO"):
        options: dict[str, Any] = {} if image_format == "TIFF" else {"quality": 95, "subsampling": 0}
        image = normalised(saved(quarters(), image_format, save_all=True, append_images=[other], **options))
        assert getattr(image, "n_frames", 1) == 1
        assert_upright(image)


def test_nothing_of_a_polyglot_is_left_but_the_picture(normalised: Normalised, tmp_path: Path) -> None:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as entries:
        entries.writestr("evil.html", "<script>alert(1)</script>")
    assert_upright(normalised(saved(quarters(), "PNG") + archive.getvalue()))
    assert not zipfile.is_zipfile(tmp_path / "target.webp")
    assert b"script" not in (tmp_path / "target.webp").read_bytes()


def test_an_image_of_many_megapixels_is_taken(normalised: Normalised) -> None:
    assert normalised(saved(Image.new("L", (5000, 4000), 90), "PNG")).size == (5000, 4000)


def test_a_side_may_have_as_many_pixels_as_webp_holds(normalised: Normalised) -> None:
    assert normalised(saved(Image.new("L", (16_383, 2), 90), "PNG")).size == (16_383, 2)
