"""Normalising animations."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageSequence

from tests.images.profiles import display_p3
from tests.images.test_normalise import TOLERANCE
from tests.support.images import normalise, saved

COLOURS = [(250, 20, 20), (20, 250, 20), (20, 20, 250)]
DURATIONS = [100, 250, 400]
# RFC 9649, section 2.7.1.
VP8X_FLAGS = 20
VP8X_ALPHA = 0x10

Played = Callable[[bytes], Image.Image]


@pytest.fixture
def played(tmp_path: Path) -> Played:
    """Normalises what a file contains, and opens the result."""

    def run(content: bytes) -> Image.Image:
        source, target = tmp_path / "source", tmp_path / "target.webp"
        source.write_bytes(content)
        normalise(source, target)
        return Image.open(BytesIO(target.read_bytes()), formats=["WEBP"])

    return run


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
def test_frames_and_durations_are_kept(image_format: str, played: Played) -> None:
    options = {"quality": 95} if image_format in ("WEBP", "AVIF") else {}
    found = frames_of(played(animation(image_format, **options)))
    assert_colours(found, list(COLOURS))
    assert [duration for _, duration in found] == DURATIONS


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
def test_it_plays_as_often_as_before(image_format: str, loop: dict[str, int], expected: int, played: Played) -> None:
    assert played(animation(image_format, **loop)).info["loop"] == expected


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


def test_frames_are_disposed_of_as_the_gif_says(played: Played) -> None:
    assert_square_stands_at_the_right_at_last(played(moving_square("GIF", disposal=2, optimize=False)))


def test_a_webp_of_opaque_rectangles_stays_transparent_around_them(played: Played) -> None:
    content = moving_square("WEBP")
    assert not content[VP8X_FLAGS] & VP8X_ALPHA, "the header has to declare it opaque, as libwebp does"
    assert_square_stands_at_the_right_at_last(played(content))


def test_an_opaque_animation_is_not_declared_transparent(played: Played) -> None:
    assert played(animation("WEBP")).mode == "RGB"


def test_colours_of_every_frame_are_converted_by_the_profile(played: Played) -> None:
    colours = [(200, 100, 100), (100, 100, 200)]
    frames = [Image.new("RGB", (40, 30), colour) for colour in colours]
    content = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=100, icc_profile=display_p3())
    assert_colours(frames_of(played(content)), [(216, 95, 96), (100, 100, 206)])


def test_every_frame_is_turned_upright(played: Played) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = played(animation("WEBP", exif=exif))
    assert image.size == (30, 40)
    assert len(frames_of(image)) == 3


def test_a_picture_beside_an_apng_is_not_part_of_it(played: Played) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in COLOURS]
    content = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=[100, 250], default_image=True)
    found = frames_of(played(content))
    assert_colours(found, list(COLOURS[1:]))


def test_a_single_frame_is_a_still(played: Played) -> None:
    image = played(saved(Image.new("RGB", (40, 30), "red").convert("P"), "GIF"))
    assert not getattr(image, "is_animated")


def test_a_frame_that_reaches_over_the_edge_is_cut(played: Played) -> None:
    content = bytearray(animation("GIF"))
    second_frame = content.index(b",", content.index(b",") + 1)
    while content[second_frame + 1 : second_frame + 5] != bytes(4):
        second_frame = content.index(b",", second_frame + 1)
    # Its left edge moves to the right, so that a part of it is outside.
    content[second_frame + 1] = 10
    image = played(bytes(content))
    assert image.size == (40, 30)
    assert len(frames_of(image)) == 3


def test_frames_that_last_for_hours_are_shortened(played: Played) -> None:
    found = frames_of(played(animation("PNG", duration=[60_000_000, 100, 60_000_000])))
    assert [duration for _, duration in found] == [200_000, 100, 200_000]
