"""Names from outside, judged before they become paths."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_workshop_storage.utils.files.paths import (
    PathEscapes,
    PathUnusable,
    find_inside,
    is_inside,
    is_partial,
    partial_path,
    resolve_inside,
    safe_file_name,
)

_PARTS = st.sampled_from(
    ["a", "b", "file.png", "in", "out", "up", "loop", "dangling", "storage", "resource", "secret", "", ".", "..", "..."]
    + [
        "%2e%2e",
        "%252e%252e",
        "%2e.",
        "%2f",
        "%5c..",
        "..%2f",
        "%00",
        "\0",
        "~",
        "%",
        "é",
        "%C3%A9",
        "..\\..",
        "\ud800",
    ]
) | st.text(max_size=5)
_PLAIN_NAMES = st.lists(
    st.sampled_from(["a", "b", "file.png", "in", "out", "up", "loop", "dangling", "storage", "resource"]), max_size=6
).map("/".join)
_NAMES = st.lists(st.tuples(_PARTS, st.sampled_from(["/", "/", "/", "\\", "%2f", "//"])), max_size=8).map(
    lambda parts: "".join(part + separator for part, separator in parts).rstrip("/" if len(parts) % 2 else "")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with files, and with links that stay inside, lead out, and lead nowhere."""
    outside = Path(os.path.realpath(tmp_path_factory.mktemp("outside")))
    inside = outside / "storage" / "resource"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "a" / "file.png").write_bytes(b"inside")
    (outside / "storage" / "secret").write_bytes(b"outside")
    (inside / "in").symlink_to("a")
    (inside / "out").symlink_to(outside)
    (inside / "up").symlink_to("..")
    (inside / "loop").symlink_to("loop")
    (inside / "dangling").symlink_to("/nowhere/at/all")
    yield inside


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../secret",
        "a/../../secret",
        "../resource/a/file.png",
        "/etc/passwd",
        "//etc/passwd",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
        "%252e%252e%252fsecret",
        "%2fetc/passwd",
        "..\\secret",
        "a\\..\\..\\secret",
        "\\etc\\passwd",
        "%5c%2e%2e/x",
        "a/%2e%2e/%2e%2e/secret",
        "out/storage/secret",
        "out/storage/resource/../secret",
        "up/secret",
        "dangling",
        "../\0",
    ],
)
def test_a_name_that_leaves_its_folder_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(PathEscapes):
        resolve_inside(str(folder), name)


@pytest.mark.parametrize("name", ["a/" * 2000 + "x", "%25" * 1300, "a/../" * 800 + "x", "/" * 4096])
def test_what_is_too_long_is_refused_before_it_is_looked_at(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "realpath", None)
    with pytest.raises(PathUnusable):
        find_inside(str(folder), name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a/",
        "a/..",
        "a/.",
        "a/b/../",
        "a\0b",
        "x" * 256,
        "y/" * 3000 + "z",
        "y/" * 64 + "z",
        "%" * 101,
        "\ud800",
        f".ow-{'0' * 32}.part",
    ],
    ids=repr,
)
def test_a_name_that_no_file_can_have_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(PathUnusable):
        resolve_inside(str(folder), name)


@pytest.mark.parametrize(
    ("name", "real"),
    [
        ("a/file.png", "a/file.png"),
        ("new/thing.bin", "new/thing.bin"),
        ("./a//file.png", "a/file.png"),
        ("a/b/../file.png", "a/file.png"),
        ("in/file.png", "a/file.png"),
        ("...", "..."),
        ("..a/b..", "..a/b.."),
        ("100%.png", "100%.png"),
        ("100%25.png", "100%25.png"),
        ("a\\b.png", "a\\b.png"),
        ("мод/мод.zip", "мод/мод.zip"),
        ("out/storage/resource/a/file.png", "a/file.png"),
    ],
)
def test_a_name_that_stays_inside_becomes_its_real_path(name: str, real: str, folder: Path) -> None:
    assert resolve_inside(str(folder), name) == f"{folder}/{real}"


def test_no_name_that_strangers_make_up_is_kept(folder: Path) -> None:
    tracemalloc.start()
    for number in range(200):
        with pytest.raises(FileNotFoundError):
            find_inside(str(folder), f"{number:\U0001f600>60}")
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The names alone have 48,000 bytes.
    assert kept < 20_000


def test_names_of_unfinished_files_are_told_from_others() -> None:
    partial = partial_path(Path("/x/main.zip"))
    assert partial.parent == Path("/x") and is_partial(partial.name)
    assert not is_partial("main.zip") and not is_partial(f"{partial.name}.zip")


@settings(max_examples=500, deadline=None)
@given(name=_NAMES)
def test_whatever_the_name_the_path_is_inside_and_the_one_that_the_system_sees(name: str, folder: Path) -> None:
    try:
        resolved = resolve_inside(str(folder), name)
    except (PathEscapes, PathUnusable):
        return
    reference = os.path.realpath(os.path.join(folder, name))
    assert resolved == reference
    assert os.path.commonpath([reference, folder]) == str(folder)
    assert is_inside(reference, str(folder))


@settings(max_examples=500, deadline=None)
@given(name=_NAMES | _PLAIN_NAMES)
def test_files_are_found_where_their_names_resolve_to(name: str, folder: Path) -> None:
    def outcome(look_up: Callable[[], tuple[str, os.stat_result]]) -> object:
        try:
            path, status = look_up()
            return path, status.st_ino
        except (PathEscapes, PathUnusable) as error:
            return type(error)
        except OSError:
            return OSError

    def slowly() -> tuple[str, os.stat_result]:
        path = resolve_inside(str(folder), name)
        return path, os.stat(path)

    assert outcome(lambda: find_inside(str(folder), name)) == outcome(slowly)


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(
        st.text(st.characters(exclude_characters="/\\%.\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
        min_size=1,
    )
)
def test_ordinary_names_are_all_accepted(parts: list[str], folder: Path) -> None:
    if parts[0] not in ("out", "up", "loop", "dangling"):
        assert is_inside(resolve_inside(str(folder), "/".join(parts)), str(folder))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("mod.zip", "mod.zip"),
        ("мод один.zip", "мод один.zip"),
        ("/etc/passwd", "passwd"),
        ("C:\\mods\\x.zip", "x.zip"),
        ("a:b?c*.zip", "a_b_c_.zip"),
        ('a<b>:"|?*.txt', "a_b______.txt"),
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
