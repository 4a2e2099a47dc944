"""Normalised stills and animations: which frames are shown, how long, and which way up; and BlurHashes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import blurhash as blurhash_python  # type: ignore[import-untyped]
import pytest
from PIL import Image, ImageSequence

from tests.images.profiles import display_p3
from tests.support.images import TOLERANCE, Normalised, assert_upright, blurhash, quarters, saved

ORIENTATION = 0x0112
MAKER = 0x010F
XMP = 700
COLOURS = [(250, 20, 20), (20, 250, 20), (20, 20, 250)]
DURATIONS = [100, 250, 400]
# RFC 9649, section 2.7.1.
VP8X_FLAGS = 20
VP8X_ALPHA = 0x10
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
    assert normalised(saved(Image.new("L", (4100, 4100), 90), "PNG")).size == (4100, 4100)


def animation(image_format: str, **options: Any) -> bytes:
    frames = [Image.new("RGB", (40, 30), colour) for colour in COLOURS]
    return saved(frames[0], image_format, save_all=True, append_images=frames[1:], **{"duration": DURATIONS, **options})


def frames_of(image: Image.Image) -> list[tuple[tuple[int, ...], float]]:
    """Return the colour in the middle and the duration of each frame."""
    found = []
    for frame in ImageSequence.Iterator(image):
        frame.load()
        pixel = frame.convert("RGBA").getpixel((20, 15))
        assert isinstance(pixel, tuple)
        found.append((pixel, frame.info["duration"]))
    return found


def assert_colours(found: list[tuple[tuple[int, ...], float]], expected: list[tuple[int, ...]]) -> None:
    assert len(found) == len(expected)
    for (pixel, _), colour in zip(found, expected, strict=True):
        assert all(abs(a - b) <= TOLERANCE for a, b in zip(pixel, colour, strict=False)), (pixel, colour)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "AVIF"])
def test_frames_and_durations_are_kept(image_format: str, normalised: Normalised) -> None:
    options = {"quality": 95} if image_format in ("WEBP", "AVIF") else {}
    found = frames_of(normalised(animation(image_format, **options)))
    assert_colours(found, list(COLOURS))
    assert [duration for _, duration in found] == DURATIONS


def test_an_animation_keeps_its_palette(normalised: Normalised) -> None:
    frames = [Image.new("P", (40, 30), colour) for colour in range(3)]
    for frame in frames:
        frame.putpalette(bytes(chain(*COLOURS)))
    content = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=DURATIONS)
    assert Image.open(BytesIO(content)).mode == "P"
    assert_colours(frames_of(normalised(content)), list(COLOURS))


@pytest.mark.parametrize(
    ("image_format", "loop", "expected"),
    [
        ("GIF", {}, 1),
        ("GIF", {"loop": 0}, 0),
        # GIF counts repetitions after the first time, the others how often it is shown in all.
        ("GIF", {"loop": 2}, 3),
        ("PNG", {"loop": 0}, 0),
        ("PNG", {"loop": 2}, 2),
        ("WEBP", {"loop": 0}, 0),
        ("WEBP", {"loop": 2}, 2),
        ("AVIF", {}, 0),
    ],
)
def test_it_plays_as_often_as_before(
    image_format: str, loop: dict[str, int], expected: int, normalised: Normalised
) -> None:
    assert normalised(animation(image_format, **loop)).info["loop"] == expected


def moving_square(image_format: str, **options: Any) -> bytes:
    """Return a transparent animation in which a small square stands at the left, then at the right."""
    frames = []
    for left in (0, 30):
        frame = Image.new("RGBA", (40, 30))
        frame.paste((250, 20, 20, 255), (left, 10, left + 10, 20))
        frames.append(frame)
    return saved(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100, **options)


def assert_square_stands_at_the_right_at_last(image: Image.Image) -> None:
    image.seek(1)
    second = image.convert("RGBA")
    left, right, middle = (second.getpixel((x, 15)) for x in (5, 35, 20))
    assert isinstance(left, tuple) and isinstance(right, tuple) and isinstance(middle, tuple)
    assert (left[3], right[3], middle[3]) == (0, 255, 0)


def test_frames_are_disposed_of_as_the_gif_says(normalised: Normalised) -> None:
    assert_square_stands_at_the_right_at_last(normalised(moving_square("GIF", disposal=2, optimize=False)))


def test_a_webp_of_opaque_rectangles_stays_transparent_around_them(normalised: Normalised) -> None:
    content = moving_square("WEBP")
    assert not content[VP8X_FLAGS] & VP8X_ALPHA, "the header has to declare it opaque, as libwebp does"
    assert_square_stands_at_the_right_at_last(normalised(content))


def test_an_opaque_animation_is_not_declared_transparent(normalised: Normalised) -> None:
    assert normalised(animation("WEBP")).mode == "RGB"


def test_colours_of_every_frame_are_converted_by_the_profile(normalised: Normalised) -> None:
    colours = [(200, 100, 100), (100, 100, 200)]
    frames = [Image.new("RGB", (40, 30), colour) for colour in colours]
    content = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=100, icc_profile=display_p3())
    assert_colours(frames_of(normalised(content)), [(216, 95, 96), (100, 100, 206)])


def test_every_frame_is_turned_upright(normalised: Normalised) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = normalised(animation("WEBP", exif=exif))
    assert image.size == (30, 40)
    assert len(frames_of(image)) == 3


def test_a_picture_beside_an_apng_is_not_part_of_it(normalised: Normalised) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in COLOURS]
    content = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=[100, 250], default_image=True)
    found = frames_of(normalised(content))
    assert_colours(found, list(COLOURS[1:]))


def test_a_single_frame_is_a_still(normalised: Normalised) -> None:
    image = normalised(saved(Image.new("RGB", (40, 30), "red").convert("P"), "GIF"))
    assert not getattr(image, "is_animated")


def test_a_frame_that_reaches_over_the_edge_is_cut(normalised: Normalised) -> None:
    content = bytearray(animation("GIF"))
    second_frame = content.index(b",", content.index(b",") + 1)
    while content[second_frame + 1 : second_frame + 5] != bytes(4):
        second_frame = content.index(b",", second_frame + 1)
    # Its left edge moves to the right, so that a part of it is outside.
    content[second_frame + 1] = 10
    image = normalised(bytes(content))
    assert image.size == (40, 30)
    assert len(frames_of(image)) == 3


def test_frames_that_last_for_hours_are_shortened(normalised: Normalised) -> None:
    found = frames_of(normalised(animation("PNG", duration=[60_000_000, 100, 60_000_000])))
    assert [duration for _, duration in found] == [200_000, 100, 200_000]


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


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("with_exif", [False, True])
def test_what_xmp_says_of_orientation_is_not_followed(
    image_format: str, with_exif: bool, normalised: Normalised
) -> None:
    options: dict[str, Any] = {"xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/' tiff:Orientation=\"6\"/>"}
    if image_format == "TIFF":
        options = {"tiffinfo": {XMP: options["xmp"]}}
    elif with_exif:
        options["exif"] = Image.Exif()
        options["exif"][MAKER] = "the camera's maker"
    content = saved(quarters(), image_format, **options)
    assert Image.open(BytesIO(content)).getexif().get(ORIENTATION) == 6, "Pillow has to read it"
    assert_upright(normalised(content))


def test_an_image_with_broken_exif_is_taken_as_upright(normalised: Normalised) -> None:
    assert_upright(normalised(saved(quarters(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")))


def test_of_several_pages_the_first_is_taken(normalised: Normalised) -> None:
    other = Image.new("RGB", (64, 48), "green")
    for image_format in ("TIFF", "MPO"):
        options: dict[str, Any] = {} if image_format == "TIFF" else {"quality": 95, "subsampling": 0}
        image = normalised(saved(quarters(), image_format, save_all=True, append_images=[other], **options))
        assert getattr(image, "n_frames", 1) == 1
        assert_upright(image)


def test_a_side_may_have_as_many_pixels_as_webp_holds(normalised: Normalised) -> None:
    assert normalised(saved(Image.new("L", (16_383, 2), 90), "PNG")).size == (16_383, 2)
