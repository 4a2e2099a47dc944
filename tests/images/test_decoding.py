"""Files that are no images, or too much of one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from open_workshop_storage.utils.images.conversion import MAX_FRAMES
from open_workshop_storage.utils.images.decoding import MAX_SOURCE_BYTES, ImageTooLargeError, NotAnImageError
from tests.support.images import blurhash, gif, normalise, saved
from tests.support.pngs import MAGIC, PALETTE, RGB, chunk, png

Stored = Callable[[bytes], Path]


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Puts bytes in a file."""

    def run(content: bytes) -> Path:
        path = tmp_path / "source"
        path.write_bytes(content)
        return path

    return run


def noise(image_format: str) -> bytes:
    image = Image.merge("RGB", [Image.effect_noise((120, 90), sigma) for sigma in (30, 60, 90)])
    if image_format == "GIF":
        image = image.convert("P")
    return saved(image, image_format)


def png_header(width: int, height: int) -> bytes:
    """Return the beginning of a PNG that promises pixels and has none."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, RGB, 0, 0, 0))
    return MAGIC + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just some text",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"%PDF-1.7\n1 0 obj\n",
        b"PK\x05\x06" + bytes(18),
        b"GIF89a",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"\xff\xd8\xff\xe0" + bytes(50),
        bytes(1000),
        pytest.param(png(2, 8, PALETTE, [b"\0\1"]), id="a PNG without its palette"),
        pytest.param(
            b"II\x2b\0\x08\0\0\0" + b"\xff" * 7 + b"\x7f", id="a TIFF whose picture is where no file has anything"
        ),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, stored: Stored, tmp_path: Path) -> None:
    source = stored(content)
    with pytest.raises(NotAnImageError):
        normalise(source, tmp_path / "target.webp")
    with pytest.raises(NotAnImageError):
        blurhash(source)


@pytest.mark.parametrize("image_format", ["ICO", "PPM", "TGA", "PCX", "EPS", "JPEG2000", "DDS"])
def test_formats_that_are_not_listed_are_refused(image_format: str, stored: Stored, tmp_path: Path) -> None:
    source = stored(saved(Image.new("RGB", (32, 32), "red"), image_format))
    with pytest.raises(NotAnImageError):
        normalise(source, tmp_path / "target.webp")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("part", [0.3, 0.8])
def test_an_image_that_is_cut_off_is_refused(image_format: str, part: float, stored: Stored, tmp_path: Path) -> None:
    content = noise(image_format)
    source = stored(content[: int(len(content) * part)])
    with pytest.raises(NotAnImageError):
        normalise(source, tmp_path / "target.webp")


def test_a_later_frame_that_is_cut_off_is_refused_too(stored: Stored, tmp_path: Path) -> None:
    frames = [Image.effect_noise((40, 30), sigma) for sigma in (20, 40, 60)]
    for image_format in ("GIF", "PNG", "WEBP"):
        content = saved(frames[0], image_format, save_all=True, append_images=frames[1:])
        with pytest.raises(NotAnImageError):
            normalise(stored(content[:-100]), tmp_path / "target.webp")


# Pillow's warning is an error only for tests.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(saved(Image.new("1", (16_384, 2)), "PNG"), id="too wide"),
        pytest.param(saved(Image.new("1", (2, 16_384)), "BMP"), id="too high"),
        pytest.param(png_header(10_000, 9_000), id="too many pixels"),
        pytest.param(png_header(16_000, 16_000), id="far too many pixels"),
        pytest.param(gif(15_000, 10_000, 1), id="too many pixels in a GIF"),
        pytest.param(gif(9_000, 9_000, 5), id="too many pixels in all frames together"),
        pytest.param(gif(1, 1, MAX_FRAMES + 1), id="too many frames"),
    ],
)
def test_an_image_over_a_limit_is_refused_before_it_is_decoded(content: bytes, stored: Stored, tmp_path: Path) -> None:
    with pytest.raises(ImageTooLargeError):
        normalise(stored(content), tmp_path / "target.webp")


def test_an_image_of_too_many_bytes_is_refused(stored: Stored, tmp_path: Path) -> None:
    source = stored(noise("WEBP"))
    with source.open("ab") as file:
        file.truncate(MAX_SOURCE_BYTES + 1)
    with pytest.raises(ImageTooLargeError):
        normalise(source, tmp_path / "target.webp")
    with pytest.raises(ImageTooLargeError):
        blurhash(source)


def test_a_bomb_has_no_blurhash(stored: Stored) -> None:
    with pytest.raises(ImageTooLargeError):
        blurhash(stored(png_header(16_000, 16_000)))


def test_a_file_that_is_not_there_is_not_taken_for_a_broken_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        normalise(tmp_path / "missing", tmp_path / "target.webp")
