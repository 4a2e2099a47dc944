"""The reader of ZIP directories, as the distributor uses it."""

from __future__ import annotations

import struct
import tempfile
import tracemalloc

import pytest

from open_workshop_storage.utils.archives.contents import unpacked_size
from open_workshop_storage.utils.archives.faults import UnpackedTooLarge
from open_workshop_storage.utils.archives.zip_directory import find_directory, read_headers
from tests.archives.refused import SOUND, TEXT
from tests.archives.zips import ENCRYPTED, Entry, zip_from
from tests.support.archives import SMALL_MOD, seven_zip_of, zip_of


def size_of(content: bytes) -> int | None:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return unpacked_size(file)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        pytest.param(zip_of(SMALL_MOD), sum(map(len, SMALL_MOD.values())), id="a sound zip"),
        pytest.param(zip_of({}), 0, id="an empty zip"),
        pytest.param(zip_from([Entry(b"a", TEXT, method=9), SOUND]), 2 * len(TEXT), id="a method that is not known"),
        pytest.param(zip_from([SOUND, Entry(b"b", TEXT, flags=ENCRYPTED)]), None, id="an encrypted entry"),
        pytest.param(seven_zip_of({"a": TEXT}, "-tzip", "-psecret", "-mem=AES256"), None, id="AES"),
        pytest.param(zip_of(SMALL_MOD)[:-1], None, id="a zip that is cut off"),
        pytest.param(zip_of(SMALL_MOD)[:-30], None, id="a zip without its end"),
        pytest.param(zip_from([SOUND], count=2), None, id="another number of entries"),
        pytest.param(seven_zip_of(SMALL_MOD), sum(map(len, SMALL_MOD.values())), id="a 7z"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_the_unpacked_size_is_the_sum_of_what_the_directory_announces(content: bytes, size: int | None) -> None:
    assert size_of(content) == size


def test_a_directory_over_the_limit_is_not_read() -> None:
    extra = struct.pack("<HH", 0x9999, 60_000) + bytes(60_000)
    content = zip_from([Entry(b"%d" % number, extra=extra, local_extra=b"") for number in range(1200)])
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        with pytest.raises(UnpackedTooLarge):
            find_directory(file)
        assert unpacked_size(file) is None


def test_of_a_header_only_what_counts_is_kept() -> None:
    extra = struct.pack("<HH", 0x9999, 60_000) + bytes(60_000)
    with tempfile.TemporaryFile() as file:
        file.write(zip_from([Entry(b"%d" % number, TEXT, extra=extra, local_extra=b"") for number in range(300)]))
        file.flush()
        tracemalloc.start()
        try:
            headers = list(read_headers(file, find_directory(file), 0))
            assert (len(headers), tracemalloc.get_traced_memory()[0] < 4_000_000) == (300, True)
        finally:
            tracemalloc.stop()
