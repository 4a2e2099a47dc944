"""JPEGs without their ends, or with too many scans."""

from __future__ import annotations

import re
from typing import Any

import pytest
from PIL import Image

from open_workshop_storage.utils.images.decoding import MAX_SCANS, ImageTooLargeError, NotAnImageError
from open_workshop_storage.utils.images.jpeg import layout_of
from tests.support.images import Normalised, assert_upright, quarters, saved

WAYS: list[dict[str, Any]] = [
    {},
    {"progressive": True},
    {"restart_marker_blocks": 3},
    {"restart_marker_rows": 1},
    {"progressive": True, "restart_marker_blocks": 3},
]


RESTART = re.compile(rb"\xff[\xd0-\xd7]")


def named(options: dict[str, Any]) -> str:
    return " ".join(options) or "baseline"


def noise(**options: Any) -> bytes:
    image = Image.merge("RGB", [Image.effect_noise((120, 90), sigma) for sigma in (30, 60, 90)])
    return saved(image, "JPEG", **options)


@pytest.mark.parametrize("options", WAYS, ids=named)
@pytest.mark.parametrize(
    "end",
    [b"", b"\xff", b"\0", bytes(5000), b"\xff" + bytes(5000)],
    ids=["none", "half", "zero", "zeros", "half, zeros"],
)
def test_a_picture_without_its_end_marker_is_shown(options: dict[str, Any], end: bytes, normalised: Normalised) -> None:
    # The data of the second end with a byte of zero.
    for subsampling in (0, 2):
        whole = saved(quarters(), "JPEG", quality=95, subsampling=subsampling, **options)
        assert_upright(normalised(whole[:-2] + end))


@pytest.mark.parametrize("options", WAYS, ids=named)
@pytest.mark.parametrize("plain", [False, True], ids=["noise", "plain"])
def test_a_picture_that_is_cut_in_the_middle_is_refused(
    options: dict[str, Any], plain: bool, normalised: Normalised
) -> None:
    whole = saved(quarters().resize((640, 480)), "JPEG", quality=95, **options) if plain else noise(**options)
    start = layout_start(whole)
    for part in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9):
        with pytest.raises(NotAnImageError):
            normalised(whole[: start + int((len(whole) - 10 - start) * part)])


@pytest.mark.parametrize("options", WAYS, ids=named)
def test_a_picture_that_lost_a_few_last_bytes_is_shown(options: dict[str, Any], normalised: Normalised) -> None:
    whole = saved(quarters().resize((320, 240)), "JPEG", quality=95, **options)
    for lost in (3, 4, 6):
        assert normalised(whole[:-lost]).size == (320, 240)


@pytest.mark.parametrize(
    ("size", "units", "shown"),
    [
        ((160, 80), 1, True),
        ((160, 80), 10, True),
        ((160, 80), 11, False),
        ((160, 160), 20, False),
        ((160, 160), 21, False),
        ((160, 640), 19, True),
        ((160, 640), 20, False),
        ((160, 640), 21, False),
        ((16, 16), 1, False),
    ],
)
def test_less_than_the_last_row_and_a_twentieth_of_a_picture_may_be_missing(
    size: tuple[int, int], units: int, shown: bool, normalised: Normalised
) -> None:
    content = saved(Image.effect_noise(size, 60), "JPEG", restart_marker_blocks=1)
    cut = content[: markers(content)[-units]]
    if shown:
        assert normalised(cut).size == size
    else:
        with pytest.raises(NotAnImageError):
            normalised(cut)


PLAIN = Image.new("RGB", (320, 240), "orange")
BANNER = Image.new("RGB", (320, 240), "orange")
BANNER.paste(Image.effect_noise((320, 48), 60), (0, 0))
GRADIENT = Image.linear_gradient("L").resize((320, 240)).convert("RGB")


@pytest.mark.parametrize("lost", [2, 4, 5, 6, 8, 12, 16, 20, 30])
@pytest.mark.parametrize("padding", [b"", bytes(5000)], ids=["", "zeros"])
def test_the_last_bit_may_be_missing_where_a_picture_is_plain(
    lost: int, padding: bytes, normalised: Normalised
) -> None:
    whole = saved(PLAIN, "JPEG", progressive=True, subsampling=0)
    shown = normalised(whole[:-lost] + padding)
    assert shown.tobytes() == normalised(whole).tobytes()


@pytest.mark.parametrize("lost", [4, 5, 6, 8])
def test_only_where_it_has_detail_a_picture_lacks_its_last_bit(lost: int, normalised: Normalised) -> None:
    whole = saved(BANNER, "JPEG", progressive=True, subsampling=0)
    assert normalised(whole[:-lost]).size == BANNER.size


@pytest.mark.parametrize("image", [GRADIENT, BANNER.resize((320, 640))], ids=["gradient", "half a banner"])
@pytest.mark.parametrize("left", [0, 10, 20, 60])
def test_a_picture_with_detail_needs_its_last_bit(image: Image.Image, left: int, normalised: Normalised) -> None:
    whole = saved(image, "JPEG", progressive=True, subsampling=0)
    with pytest.raises(NotAnImageError):
        normalised(whole[: whole.rindex(b"\xff\xda") + left])


def test_no_other_bits_may_be_missing(normalised: Normalised) -> None:
    whole = saved(PLAIN, "JPEG", progressive=True)
    scan = whole.rindex(b"\xff\xda", 0, whole.rindex(b"\xff\xda"))
    with pytest.raises(NotAnImageError):
        normalised(whole[:scan])


@pytest.mark.parametrize("rows", range(8, 16))
def test_a_picture_without_its_last_row_is_refused_whatever_marker_stood_before_it(
    rows: int, normalised: Normalised
) -> None:
    content = saved(Image.effect_noise((320, rows * 8), 60), "JPEG", restart_marker_rows=1)
    with pytest.raises(NotAnImageError):
        normalised(content[: markers(content)[-1]])


def markers(content: bytes) -> list[int]:
    """Return where the restart markers are."""
    return [match.start() for match in RESTART.finditer(content, layout_start(content))]


def layout_start(content: bytes) -> int:
    """Return where the first scan's data start."""
    start = content.index(b"\xff\xda") + 2
    return start + int.from_bytes(content[start : start + 2], "big")


def test_a_picture_that_is_cut_at_a_restart_marker_is_refused(normalised: Normalised) -> None:
    content = noise(restart_marker_blocks=3)
    for number in range(0xD0, 0xD8):
        with pytest.raises(NotAnImageError):
            normalised(content[: content.index(bytes((0xFF, number)), layout_start(content))])


def test_a_picture_that_is_cut_between_two_scans_is_refused(normalised: Normalised) -> None:
    content = noise(progressive=True)
    scan = content.index(b"\xff\xda")
    while (scan := content.find(b"\xff\xda", scan + 1)) >= 0:
        # The tables of the next scan stand before it.
        tables = content.rindex(b"\xff\xc4", 0, scan)
        with pytest.raises(NotAnImageError):
            normalised(content[:tables])


def with_scans(size: tuple[int, int], count: int) -> bytes:
    """Return a progressive JPEG whose last scan, with its tables, stands there more than once."""
    content = saved(Image.new("L", size, 128), "JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xc4") : -2]
    return content[:-2] + scan * (count - layout_of(content).scans) + content[-2:]


def test_scans_are_limited_before_a_picture_is_decoded(normalised: Normalised) -> None:
    assert layout_of(with_scans((64, 48), MAX_SCANS)).scans == MAX_SCANS
    assert normalised(with_scans((64, 48), MAX_SCANS)).size == (64, 48)
    with pytest.raises(ImageTooLargeError):
        normalised(with_scans((640, 480), 10_000))


def test_a_thumbnail_is_not_taken_for_the_picture(normalised: Normalised) -> None:
    exif = b"Exif\0\0" + saved(Image.new("L", (9, 9)), "JPEG")
    assert_upright(normalised(saved(quarters(), "JPEG", quality=95, subsampling=0, exif=exif)[:-2]))
