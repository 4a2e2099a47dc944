"""Reading forms, whole and piece by piece."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_workshop_storage.utils.http.forms import FormError, MultipartReader, multipart_boundary, read_form

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


def part(name: str, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (URLENCODED, "token=a%26b&path=%D0%BC+1&empty=".encode()),
        (MULTIPART, part("token", b"a&b") + part("path", "м 1".encode()) + part("empty", b"") + b"--b--\r\n"),
    ],
)
def test_fields_of_either_type_are_read(content_type: str, body: bytes) -> None:
    assert read_form(content_type, body) == {"token": "a&b", "path": "м 1", "empty": ""}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (URLENCODED, b"token=%ff"),
        (URLENCODED, b"&".join([b"a=b"] * 33)),
        ("multipart/form-data", part("token", b"a") + b"--b--\r\n"),
        (MULTIPART, part("token", b"a")),
        (MULTIPART, part("token", b"\xff") + b"--b--\r\n"),
        (MULTIPART, b"--b\r\n\r\nno name\r\n--b--\r\n"),
        (MULTIPART, part("token", b"a") * 33 + b"--b--\r\n"),
        (MULTIPART, b"no form"),
    ],
)
def test_other_forms_are_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(FormError):
        read_form(content_type, body)


@given(st.integers(1, 40))
def test_a_file_comes_out_to_the_byte_however_the_form_is_cut(size: int) -> None:
    content = b"\r\n--a\r\n--\r--b" * 5
    body = part("before", b"1") + part("file", content) + part("after", b"2") + b"--b--\r\n"
    reader = MultipartReader(b"b", "file")
    assert (
        b"".join(piece for start in range(0, len(body), size) for piece in reader.feed(body[start : start + size]))
        == content
    )
    assert reader.complete and reader.has_file


def test_a_second_file_is_refused() -> None:
    reader = MultipartReader(b"b", "file")
    with pytest.raises(FormError):
        reader.feed(part("file", b"1") + part("file", b"2"))


def test_the_boundary_stands_in_the_content_type() -> None:
    assert multipart_boundary('Multipart/Form-Data; charset=utf-8; boundary="a b"') == b"a b"
    assert multipart_boundary(URLENCODED) is None
    for unreasonable in ("multipart/form-data; boundary=", MULTIPART + ";" * 1000):
        with pytest.raises(FormError):
            multipart_boundary(unreasonable)


@pytest.mark.parametrize(
    "body",
    [
        b"".join(part(str(number), bytes(10_000)) for number in range(7)),
        part("field", bytes(17_000)),
        part("n" * 70_000, b""),
        b"--b\r\n" + b"X: y\r\nContent-Disposition: form-data; name=a\r\n" * 2000,
        b"--b\r\n" + b"h" * 70_000,
        b"--b\r\nContent-Disposition: form-data; name=" + b"h" * 70_000,
    ],
)
def test_all_of_a_form_but_its_file_is_bounded_together(body: bytes) -> None:
    reader = MultipartReader(b"b", "file")
    reader.feed(part("file", bytes(1_000_000)) + part("a", bytes(16_000)) + part("b", bytes(16_000)))
    with pytest.raises(FormError):
        MultipartReader(b"b", "file").feed(body)


def test_a_field_of_wide_characters_takes_no_more_memory_than_it_has_bytes() -> None:
    body = part("field", b"a" * 15_000 + "😀".encode()) + b"--b--\r\n"
    reader = MultipartReader(b"b", "file")
    tracemalloc.start()
    reader.feed(body)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000
    assert reader.text("field") == "a" * 15_000 + "😀"
