"""How files are labelled for browsers."""

from __future__ import annotations

import pytest

from open_workshop_storage.utils.http.media_types import (
    DEFAULT_MEDIA_TYPE,
    attachment_name,
    content_disposition,
    media_type,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.webp", "image/webp"),
        ("a.PNG", "image/png"),
        ("a.jpeg", "image/jpeg"),
        ("a.tar.gz", "application/gzip"),
        ("main.zip", "application/zip"),
    ],
)
def test_harmless_types_are_named(name: str, expected: str) -> None:
    assert media_type(name) == expected


@pytest.mark.parametrize(
    "name", ["a.svg", "a.html", "a.htm", "a.xhtml", "a.xml", "a.js", "a.pdf", "a.swf", "a", ".png", "a.png.exe", "a."]
)
def test_all_that_might_run_script_or_is_unknown_is_bytes(name: str) -> None:
    assert media_type(name) == DEFAULT_MEDIA_TYPE


@pytest.mark.parametrize(
    ("filename", "stored", "expected"),
    [
        ("my_mod-1", "main.zip", 'attachment; filename="my_mod-1.zip"'),
        ("x", "picture.WebP", 'attachment; filename="x.WebP"'),
        ("x", "no-extension", 'attachment; filename="x"'),
        ("x", 'evil.z"i\r\np;', 'attachment; filename="x.zip"'),
        ("x", "мод.мод", "attachment; filename=\"x\"; filename*=UTF-8''x.%D0%BC%D0%BE%D0%B4"),
        ("x", "a.z;ip", "attachment; filename=\"x.zip\"; filename*=UTF-8''x.z%3Bip"),
    ],
)
def test_an_attachment_is_named_as_asked(filename: str, stored: str, expected: str) -> None:
    assert content_disposition(filename, stored) == expected


@pytest.mark.parametrize("name", [None, "", "a b", "a.b", "../a", "a\n", "é", "٣", "x" * 201])
def test_other_names_are_ignored(name: str | None) -> None:
    assert attachment_name(name) is None


def test_a_name_may_have_two_hundred_characters() -> None:
    assert attachment_name("x" * 200) == "x" * 200
