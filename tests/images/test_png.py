"""PNGs with broken, large or odd chunks beside a sound picture."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO

import pytest
from PIL import Image

from open_workshop_storage.utils.images.decoding import NotAnImageError
from open_workshop_storage.utils.images.png import MAX_PROFILE_BYTES
from tests.images.profiles import display_p3
from tests.support.images import Normalised, assert_colour, saved
from tests.support.pngs import GREY, MAGIC, PALETTE, RGB, chunk, plain, png

PLAIN = (200, 100, 100)
IN_P3 = (216, 95, 96)


def profile_chunk(profile: bytes, *, sound: bool = True) -> bytes:
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile), sound=sound)


def padded(profile: bytes, size: int) -> bytes:
    """Return a profile of so many bytes, the rest of which belongs to nothing."""
    return struct.pack(">I", size) + profile[4:].ljust(size - 4, b"\0")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"tEXt", b"Software\0painter"),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"text")),
        (b"iTXt", b"Comment\0\0\0\0\0text"),
        (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", *range(8))),
        (b"sRGB", b"\0"),
        (b"bKGD", struct.pack(">3H", 1, 2, 3)),
        (b"tIME", bytes(7)),
        (b"tRNS", struct.pack(">3H", *PLAIN)),
        (b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
        (b"iCCP", b"profile\0\0" + zlib.compress(display_p3())),
        (b"acTL", struct.pack(">II", 2, 0)),
        (b"prVt", b"something of a program's own"),
    ],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_an_ancillary_chunk_with_a_wrong_checksum_counts_as_absent(
    kind: bytes, data: bytes, place: str, normalised: Normalised
) -> None:
    broken = chunk(kind, data, sound=False)
    image = normalised(plain(broken) if place == "before" else plain(after=[broken]))
    assert (image.mode, image.size) == ("RGB", (9, 9))
    assert_colour(image, PLAIN)


def test_a_critical_chunk_with_a_wrong_checksum_is_refused(normalised: Normalised) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, RGB, 0, 0, 0), sound=False)
    palette = chunk(b"PLTE", bytes(6), sound=False)
    for content in (MAGIC + header + plain()[33:], png(4, 8, PALETTE, [bytes(4)] * 4, [palette])):
        with pytest.raises(NotAnImageError):
            normalised(content)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(chunk(b"tRNS", b"\0"), id="short tRNS"),
        pytest.param(chunk(b"pHYs", b"\0"), id="short pHYs"),
        pytest.param(chunk(b"gAMA", b""), id="empty gAMA"),
        pytest.param(chunk(b"iCCP", b"profile\0\1" + zlib.compress(display_p3())), id="unknown compression"),
        pytest.param(chunk(b"iCCP", b"profile\0\0" + zlib.compress(display_p3())[:50]), id="cut profile"),
        pytest.param(chunk(b"iCCP", b"profile"), id="no profile"),
        pytest.param(profile_chunk(padded(display_p3(), MAX_PROFILE_BYTES + 1)), id="profile over the limit"),
        pytest.param(chunk(b"zTXt", b"Comment\0\0no zlib"), id="no zlib"),
    ],
)
def test_an_ancillary_chunk_that_makes_no_sense_counts_as_absent(broken: bytes, normalised: Normalised) -> None:
    assert_colour(normalised(plain(broken)), PLAIN)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_text_may_be_large(kind: bytes, normalised: Normalised) -> None:
    start = b"prompt\0\0" if kind == b"zTXt" else b"prompt\0\1\0\0\0"
    text = chunk(kind, start + zlib.compress(b"a forest, " * 200_000))
    assert_colour(normalised(plain(text)), PLAIN)
    assert_colour(normalised(plain(after=[text])), PLAIN)


@pytest.mark.parametrize("size", [len(display_p3()), 1_300_000, MAX_PROFILE_BYTES])
def test_a_large_profile_is_followed(size: int, normalised: Normalised) -> None:
    assert_colour(normalised(plain(profile_chunk(padded(display_p3(), size)))), IN_P3)


def packed(values: Sequence[int], depth: int) -> bytes:
    bits = "".join(f"{value:0{depth}b}" for value in values)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("transparent", [0, 1, -1])
def test_a_transparent_grey_is_transparent_at_any_depth(depth: int, transparent: int, normalised: Normalised) -> None:
    most = (1 << depth) - 1
    transparent &= most
    values = sorted({0, 1, most // 2, most - 1, most})
    row = [*values, *values, *values, *values, *values, *values, *values, *values][:8]
    image = normalised(png(8, depth, GREY, [packed(row, depth)] * 4, [chunk(b"tRNS", struct.pack(">H", transparent))]))
    assert [image.getchannel("A").getpixel((x, 1)) for x in range(8)] == [255 * (value != transparent) for value in row]


@pytest.mark.parametrize(("depth", "unit"), [(8, 1), (16, 1), (16, 0x100)])
def test_a_transparent_colour_is_transparent_at_any_depth(depth: int, unit: int, normalised: Normalised) -> None:
    """Of 16 bits, all count: a colour that differs in a lower byte only stays."""
    colour = (0x1234, 0x5678, 0x9ABC) if depth == 16 else (0x12, 0x56, 0x9A)
    others = [tuple(value + unit * (band == other) for band, value in enumerate(colour)) for other in range(3)]
    layout = ">3H" if depth == 16 else ">3B"
    row = b"".join(struct.pack(layout, *pixel) for pixel in [colour, *others])
    image = normalised(png(4, depth, RGB, [row] * 4, [chunk(b"tRNS", struct.pack(">3H", *colour))]))
    assert [image.getchannel("A").getpixel((x, 1)) for x in range(4)] == [0, 255, 255, 255]
    assert_colour(image, (0x12, 0x56, 0x9A, 255), (2, 1)) if unit == 1 else None


def test_a_deep_transparent_colour_is_transparent_beside_a_broken_chunk(normalised: Normalised) -> None:
    chunks = [chunk(b"tEXt", b"a\0b", sound=False), chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))]
    image = normalised(
        png(4, 16, RGB, [struct.pack(">12H", *(1, 2, 3), *(1, 2, 4), *(1, 2, 3), *(0, 0, 0))] * 4, chunks)
    )
    assert [image.getchannel("A").getpixel((x, 1)) for x in range(4)] == [0, 255, 0, 255]


def test_a_palette_keeps_its_transparency_beside_a_broken_chunk(normalised: Normalised) -> None:
    palette, broken = chunk(b"PLTE", bytes((255, 0, 0, 0, 0, 255))), chunk(b"hIST", b"\0\1\0\1", sound=False)
    image = normalised(png(4, 8, PALETTE, [b"\0\0\1\1"] * 4, [palette, broken, chunk(b"tRNS", b"\x80")]))
    assert [image.getchannel("A").getpixel((x, 1)) for x in range(4)] == [128, 128, 255, 255]


def test_an_interlaced_picture_is_shown_with_its_transparent_colour(normalised: Normalised) -> None:
    # Adam7 of 1×1 is one pass of one pixel.
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, RGB, 0, 0, 1))
    data = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", 1, 2, 3)))
    transparent = chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))
    broken = chunk(b"tEXt", b"a\0b", sound=False)
    assert normalised(MAGIC + header + broken + transparent + data + chunk(b"IEND", b"")).getpixel((0, 0)) == (
        0,
        0,
        0,
        0,
    )


def test_an_animation_with_a_broken_chunk_is_a_still(normalised: Normalised) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    content = bytearray(saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=100))
    # In the second frame's delay.
    content[content.rindex(b"fcTL") + 4 + 21] ^= 1
    image = normalised(bytes(content))
    assert getattr(image, "n_frames", 1) == 1
    assert_colour(image, (255, 0, 0))


@pytest.mark.parametrize(
    ("kind", "number", "times"),
    [(b"acTL", 0, 0), (b"fcTL", 1, 0), (b"fcTL", 1, 2), (b"fdAT", 0, 0), (b"fdAT", 1, 0), (b"fdAT", 0, 2)],
)
def test_an_animation_whose_chunks_are_not_those_it_needs_is_a_still(
    kind: bytes, number: int, times: int, normalised: Normalised
) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "white")]
    content = saved(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=100)
    assert getattr(normalised(content), "n_frames", 1) == 3
    start = [match.start() for match in re.finditer(kind, content)][number] - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    image = normalised(content[:start] + content[start:end] * times + content[end:])
    assert getattr(image, "n_frames", 1) == 1
    assert_colour(image, (255, 0, 0))


def test_a_picture_that_announces_an_animation_and_has_none_is_shown(normalised: Normalised) -> None:
    assert_colour(normalised(plain(chunk(b"acTL", struct.pack(">II", 2, 0)))), PLAIN)


def test_a_picture_without_its_end_chunk_is_shown(normalised: Normalised) -> None:
    assert_colour(normalised(plain()[:-12]), PLAIN)
    text = chunk(b"tEXt", b"Comment\0text")
    assert_colour(normalised(plain(after=[text])[:-20]), PLAIN)


def test_text_that_turns_a_picture_is_not_followed(normalised: Normalised) -> None:
    """Browsers turn by EXIF alone."""
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/' tiff:Orientation=\"6\"/>"
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    wide = png(6, 8, GREY, [bytes(6)] * 3, [text])
    assert Image.open(BytesIO(wide)).getexif()[0x0112] == 6, "Pillow has to read it"
    assert normalised(wide).size == (6, 3)
