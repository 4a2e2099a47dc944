"""File names from outside, made safe."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_workshop_storage.utils.files.safe_names import safe_file_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("mod.zip", "mod.zip"),
        ("мод один.zip", "мод один.zip"),
        ("/etc/passwd", "passwd"),
        ("C:\\mods\\x.zip", "x.zip"),
        ("a:b?c*.zip", "a_b_c_.zip"),
        ("a\x00b\x1f.zip", "ab.zip"),
        ("", "file"),
        ("..", "file"),
        ("folder/", "file"),
        (".htaccess", ".htaccess"),
        ("...", "file"),
        ("aux.lua", "_aux.lua"),
        ("CON", "_CON"),
        ("com1 .tar.gz", "_com1 .tar.gz"),
        ("console.txt", "console.txt"),
        ("می\u200cخواهم.txt", "می\u200cخواهم.txt"),
        ("👨\u200d👩\u200d👧.png", "👨\u200d👩\u200d👧.png"),
        ("\u200d", "file"),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f.png",) * 2,
        ("of a later Unicode \U0001fae9.png",) * 2,
        ("a font's own \uf8ff.png",) * 2,
        ("\ufeffbom\u00ad.txt", "bom.txt"),
        ("picture\u202egpj.exe", "picturegpj.exe"),
    ],
)
def test_the_last_part_stays_without_what_means_more_than_itself(name: str, safe: str) -> None:
    assert safe_file_name(name) == safe


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_file_name("ж" * 300 + ".zip") == "ж" * 98 + ".zip"


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_becomes_a_name(name: str) -> None:
    safe = safe_file_name(name)
    assert 0 < len(safe.encode()) <= 200 and safe not in (".", "..") and "/" not in safe and "\\" not in safe
