"""What readers of ZIPs make of those that are kept as they are."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from open_workshop_storage.core.errors import StorageError
from tests.archives.refused import TEXT
from tests.archives.workbench import Workbench
from tests.archives.zips import FAT, UTF8, Entry, streamed, unicode_path, zip_from
from tests.support.archives import zip_of

pytestmark = pytest.mark.anyio

Files = dict[str, str]
"""Digests by name."""

FOLDER_MODE = 0o040755
NAMED = {
    "sound": zip_of({"a.txt": TEXT, "b/c.txt": TEXT, "empty": b""}),
    "sizes follow": zip_from([streamed(Entry(b"a", TEXT)), streamed(Entry(b"b", TEXT * 2), large=False)]),
    "stored, sizes follow": zip_from([streamed(Entry(b"a", TEXT, method=0)), Entry(b"b", TEXT * 9)]),
    "a false descriptor in stored data": zip_from(
        [
            streamed(Entry(b"a", b"x" * 50 + struct.pack("<4sIII", b"PK\7\x08", 1, 50, 50) + b"y" * 50, method=0)),
            Entry(b"b", TEXT * 9),
        ]
    ),
    "a folder by attribute": zip_from([Entry(b"a", TEXT, system=FAT, dos_attributes=0x10)]),
    "a folder by mode": zip_from([Entry(b"a", TEXT, mode=FOLDER_MODE)]),
    "a folder with packed data": zip_from([Entry(b"a/", mode=FOLDER_MODE, packed_as=b"\3\0"), Entry(b"a/b", TEXT)]),
    "a folder twice": zip_from([Entry(b"a/", method=0), Entry(b"a/b", TEXT), Entry(b"a/", method=0)]),
    "a comment": zip_from([Entry(b"a", TEXT)])[:-2] + b"\7\0comment",
    "a signature in a comment": zip_from([Entry(b"a", TEXT)])[:-2] + b"\x09\0abcdePK\5\6",
    "a long extra field": zip_from([Entry(b"a", TEXT, extra=b"\xff\xff\xff\x7f\1\2")]),
    "an extra field of three bytes": zip_from([Entry(b"a", TEXT, extra=b"\0\0\0")]),
    "a large field of no size": zip_from([Entry(b"a", TEXT, extra=struct.pack("<HH", 1, 0))]),
    "a large field that is not needed": zip_from([Entry(b"a", TEXT, extra=struct.pack("<HHQ", 1, 8, 9))]),
    "backslashes": zip_from([Entry(b"a\\b", TEXT, system=FAT)]),
    "UTF-8": zip_from([Entry("ü/€".encode(), TEXT, flags=UTF8)]),
    "UTF-8 in one header only": zip_from([Entry("ü".encode(), TEXT, flags=UTF8, local_flags=0)]),
    "a gap": zip_from([Entry(b"a", TEXT), replace(Entry(b"b", TEXT), before=b"gap" * 9)]),
    "an entry in a gap": zip_from(
        [Entry(b"a", TEXT), replace(Entry(b"b", TEXT), before=zip_from([Entry(b"c", TEXT)]))]
    ),
    "a Unicode path": zip_from([Entry(b"a", TEXT, extra=unicode_path(b"a", "b"))]),
    "UTF-8 that does not say so": zip_from([Entry("ü".encode(), TEXT)]),
    "an entry for newer readers": zip_from([Entry(b"a", TEXT, needed=63), Entry(b"b", TEXT)]),
    "patched data": zip_from([Entry(b"a", TEXT, flags=0x20), Entry(b"b", TEXT)]),
    "a volume": zip_from([Entry(b"a", TEXT, system=FAT, dos_attributes=8), Entry(b"b", TEXT)]),
    "large sizes that are not needed": zip_from([streamed(Entry(b"a", TEXT), large=True), Entry(b"b", TEXT)]),
    "a folder by libarchive's attributes": zip_from(
        [Entry(b"a", TEXT, extra=struct.pack("<HHBHI", 0x6C78, 7, 0b101, 3 << 8, 0o040777 << 16)), Entry(b"b", TEXT)]
    ),
    "one name written in two ways": zip_from([Entry(b"./a//b", TEXT)]),
}


def corpus() -> dict[str, bytes]:
    """Return the ZIPs above, and some with bytes changed."""
    rng = random.Random(15)
    found = dict(NAMED)
    for number in range(150):
        name, content = rng.choice(list(NAMED.items()))
        changed = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            # Headers are where readers differ: at the start, and behind the data.
            at = rng.choice([rng.randrange(60), len(changed) - 1 - rng.randrange(150)])
            changed[at % len(changed)] = rng.choice([0, 1, 8, 0x10, 0x20, 0xFF, rng.randrange(256)])
        found[f"{name} {number}"] = bytes(changed)
    return found


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def by_python(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: digest(archive.read(info)) for info in archive.infolist() if not info.is_dir()}


def by_command(*command: str) -> Callable[[Path], Files]:
    """Return a reader that extracts by a command, whose last argument is the folder."""

    def read(path: Path) -> Files:
        with tempfile.TemporaryDirectory() as folder:
            arguments = [part.format(archive=path, folder=folder) for part in command]
            environment = {**os.environ, "LC_ALL": "C.UTF-8"}
            subprocess.run(arguments, capture_output=True, check=True, stdin=subprocess.DEVNULL, env=environment)
            return {
                file.relative_to(folder).as_posix(): digest(file.read_bytes())
                for file in Path(folder).rglob("*")
                if file.is_file()
            }

    return read


READERS: dict[str, Callable[[Path], Files]] = {
    "python": by_python,
    "unzip": by_command("unzip", "-qq", "-o", "{archive}", "-d", "{folder}"),
    "7z": by_command("7z", "x", "-y", "-tzip", "{archive}", "-o{folder}"),
    "bsdtar": by_command("bsdtar", "-xf", "{archive}", "-C", "{folder}"),
}


def by_java(folder: Path) -> dict[str, dict[str, Files]]:
    """Return what Java's two readers read, by archive and reader."""
    source = Path(__file__).with_name("Readers.java")
    ran = subprocess.run(["java", source, folder], capture_output=True, check=True, text=True)
    found: dict[str, dict[str, Files]] = {}
    for line in ran.stdout.splitlines():
        archive, reader, name, value = line.split("\t")
        key = name if name == "refused" else bytes.fromhex(name).decode()
        found.setdefault(archive, {}).setdefault(reader, {})[key] = value
    return found


def plain(files: Files) -> Files:
    """Return files under names as all readers write them: some keep dots and double slashes."""
    return {os.path.normpath(name): value for name, value in files.items()}


async def kept_ones(workbench: Workbench, folder: Path) -> dict[str, Path]:
    """Write those of the corpus that would be kept to a folder."""
    kept = {}
    for number, (name, content) in enumerate(corpus().items()):
        try:
            if await workbench.is_kept(content):
                kept[name] = folder / f"{number}.zip"
                kept[name].write_bytes(content)
        except StorageError:
            pass
    return kept


async def test_all_readers_read_the_same_in_a_zip_that_is_kept(workbench: Workbench, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    kept = await kept_ones(workbench, folder)
    assert {"sound", "sizes follow", "a folder twice", "a comment", "UTF-8"} <= set(kept)
    available = {name: read for name, read in READERS.items() if name == "python" or shutil.which(name)}
    java = by_java(folder) if shutil.which("java") else {}
    for name, path in kept.items():
        expected = plain(by_python(path))
        for reader, read in available.items():
            assert plain(read(path)) == expected, f"{reader} of {name}"
        for reader, files in java.get(path.name, {}).items():
            assert plain(files) == expected, f"{reader} of {name}"
