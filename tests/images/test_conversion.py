"""Normalised files, and BlurHashes."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import blurhash as blurhash_python  # type: ignore[import-untyped]
import pytest
from PIL import Image

from tests.images.profiles import display_p3
from tests.support.images import Normalised, assert_upright, blurhash, quarters, saved

MAKER = 0x010F
# The first character says how many components there are: 4 × 3 is digit 21 of base 83.
FOUR_BY_THREE = "L"


def stored(folder: Path, content: bytes) -> Path:
    path = folder / "image"
    path.write_bytes(content)
    return path


def preview(code: str) -> Image.Image:
    image: Image.Image = blurhash_python.decode(code, 16, 16)
    return image.copy()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_blurhash_looks_like_the_image(image_format: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (400, 200), (220, 40, 40))
    image.paste((40, 40, 220), (200, 0, 400, 200))
    code, width, height = blurhash(stored(tmp_path, saved(image, image_format)))
    assert code.startswith(FOUR_BY_THREE)
    assert (width, height) == (400, 200)
    left, right = preview(code).getpixel((1, 8)), preview(code).getpixel((14, 8))
    assert isinstance(left, tuple) and isinstance(right, tuple)
    assert left[0] > 150 > left[2]
    assert right[2] > 150 > right[0]


def test_a_large_photo_has_its_own_pixels_counted(tmp_path: Path) -> None:
    content = saved(Image.effect_noise((1500, 1001), 40).convert("RGB"), "JPEG")
    _, width, height = blurhash(stored(tmp_path, content))
    assert (width, height) == (1500, 1001)


def test_transparency_is_ignored(tmp_path: Path) -> None:
    opaque = Image.merge("RGB", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.new("L", (256, 256))])
    transparent = opaque.copy()
    transparent.putalpha(Image.linear_gradient("L"))
    expected = blurhash(stored(tmp_path, saved(opaque, "PNG")))
    assert blurhash(stored(tmp_path, saved(transparent, "PNG"))) == expected


def test_a_palette_with_transparency_is_hashed(tmp_path: Path) -> None:
    image = Image.new("P", (9, 9), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    plain = blurhash(stored(tmp_path, saved(image, "PNG")))
    assert blurhash(stored(tmp_path, saved(image, "PNG", transparency=bytes((255, 128))))) == plain


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "I;16", "RGBA"])
def test_every_kind_of_pixel_is_hashed(mode: str, tmp_path: Path) -> None:
    content = saved(Image.new(mode, (9, 7)), "TIFF")
    code, width, height = blurhash(stored(tmp_path, content))
    assert code.startswith(FOUR_BY_THREE)
    assert (width, height) == (9, 7)


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    still = blurhash(stored(tmp_path, saved(frames[0], "GIF")))
    moving = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert blurhash(stored(tmp_path, moving)) == still


def test_an_image_of_one_pixel_is_hashed(tmp_path: Path) -> None:
    assert blurhash(stored(tmp_path, saved(Image.new("RGB", (1, 1), "red"), "PNG")))[1:] == (1, 1)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_all_metadata_are_dropped(image_format: str, normalised: Normalised, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[MAKER] = "the camera's maker"
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>the place</x:xmpmeta>"
    image = normalised(saved(quarters(), image_format, exif=exif, xmp=xmp, icc_profile=display_p3(), comment="c"))
    assert not {"exif", "icc_profile", "xmp", "comment"} & image.info.keys()
    content = (tmp_path / "target.webp").read_bytes()
    assert not any(text in content for text in (b"EXIF", b"XMP ", b"ICCP", b"maker", b"place"))


def test_nothing_of_a_polyglot_is_left_but_the_picture(normalised: Normalised, tmp_path: Path) -> None:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as entries:
        entries.writestr("evil.html", "<script>alert(1)</script>")
    assert_upright(normalised(saved(quarters(), "PNG") + archive.getvalue()))
    assert not zipfile.is_zipfile(tmp_path / "target.webp")
    assert b"script" not in (tmp_path / "target.webp").read_bytes()


def test_an_image_of_many_megapixels_is_taken(normalised: Normalised) -> None:
    assert normalised(saved(Image.new("L", (5000, 4000), 90), "PNG")).size == (5000, 4000)
