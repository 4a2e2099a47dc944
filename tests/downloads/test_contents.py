"""What is in stored ZIPs, from a running distributor."""

from __future__ import annotations

import gzip
import secrets
import struct
import zipfile
import zlib
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.archives.zips import (
    ENCRYPTED,
    FAT,
    UTF8,
    Entry,
    overlapping,
    streamed,
    unicode_path,
    zip_from,
)
from tests.support.archives import SMALL_MOD, seven_zip_of, zip_of
from tests.support.client import raw_request
from tests.support.manager import AccessAnswer
from tests.support.services import Services

pytestmark = pytest.mark.anyio

TEXT = b"some text, " * 2000
NOISE = secrets.token_bytes(700_000)
GZIP = {"Accept-Encoding": "gzip"}
PLAIN = {"Accept-Encoding": "identity"}


class Archive:
    """A stored archive of its own, asked for over HTTP."""

    def __init__(self, services: Services, http: httpx.AsyncClient, name: str = "") -> None:
        self.name = name or f"archive/{secrets.token_hex(8)}.zip"
        self._services = services
        self._http = http

    def store(self, content: bytes) -> None:
        self._services.stored(self.name, content)

    async def look(self, method: str = "GET", **headers: str) -> httpx.Response:
        return await self._http.request(method, self.url, headers=headers)

    async def files(self) -> list[dict[str, Any]]:
        answer = await self.look()
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["entries"]
        return found

    async def entry(self, name: str, headers: dict[str, str] = PLAIN, method: str = "GET") -> httpx.Response:
        """Ask for one file, with its content as it was sent."""
        async with self._http.stream(method, f"{self.url}?entry={quote(name, safe='')}", headers=headers) as answer:
            answer._content = b"".join([part async for part in answer.aiter_raw()])
            return answer

    @property
    def url(self) -> str:
        return f"{self._services.distributor}/contents/{quote(self.name)}"


@pytest.fixture
def archive(distributing: Services, http: httpx.AsyncClient) -> Archive:
    return Archive(distributing, http)


async def test_a_listing_tells_of_each_file_in_the_order_of_the_directory(archive: Archive) -> None:
    files = {"z/last.txt": TEXT, "a/first.bin": NOISE, 'odd "\\name\n\x7f.txt': b"x", "empty": b""}
    archive.store(zip_from([Entry(b"z/", method=0), *(Entry(name.encode(), data) for name, data in files.items())]))
    answer = await archive.look()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    told = answer.json()
    assert list(told) == ["path", "bytes", "unpacked_bytes", "entries"]
    assert (told["path"], told["bytes"]) == (
        archive.name,
        archive._services.main_dir.joinpath(archive.name).stat().st_size,
    )
    assert told["unpacked_bytes"] == sum(map(len, files.values()))
    with zipfile.ZipFile(archive._services.main_dir / archive.name) as opened:
        assert told["entries"] == [
            {
                "name": info.filename,
                "bytes": info.file_size,
                "compressed_bytes": info.compress_size,
                "crc32": f"{info.CRC:08x}",
                "modified": "1980-01-01T00:00:00",
            }
            for info in opened.infolist()
            if not info.is_dir()
        ]


async def test_names_are_those_that_readers_see(archive: Archive) -> None:
    flagged, plain, raw = "ü/€.txt", "a.txt", "Grüße".encode("cp437")
    entries = [
        Entry(flagged.encode(), TEXT, flags=UTF8),
        Entry("без флага.txt".encode(), TEXT),
        Entry(raw, TEXT),
        Entry(b"one", TEXT, extra=unicode_path(b"one", "один")),
        Entry(b"two", TEXT, extra=unicode_path(b"another name", "два")),
        Entry(plain.encode(), TEXT),
    ]
    archive.store(zip_from(entries))
    names = [flagged, "без флага.txt", "Grüße", "один", "two", plain]
    assert [file["name"] for file in await archive.files()] == names
    for name in names:
        assert (await archive.entry(name)).content == TEXT
    assert (await archive.entry("one")).status_code == 404


async def test_a_date_that_is_none_is_null_and_folders_are_left_out(archive: Archive) -> None:
    content = bytearray(
        zip_from([Entry(b"a", TEXT), Entry(b"b", TEXT), Entry(b"folder", system=FAT, dos_attributes=0x10)])
    )
    first = content.index(b"PK\1\2")
    content[first + 12 : first + 16] = struct.pack("<HH", 23 << 11 | 59 << 5 | 29, 44 << 9 | 2 << 5 | 29)
    content[first + 47 + 12 : first + 47 + 16] = struct.pack("<HH", 0, 13 << 5 | 1)
    archive.store(bytes(content))
    assert [(file["name"], file["modified"]) for file in await archive.files()] == [
        ("a", "2024-02-29T23:59:58"),
        ("b", None),
    ]


async def test_a_listing_has_the_validators_of_its_file(archive: Archive, http: httpx.AsyncClient) -> None:
    archive.store(zip_of(SMALL_MOD))
    head, whole = await archive.look("HEAD"), await archive.look()
    file = await http.head(archive.url.replace("/contents/", "/download/"))
    for name in ("etag", "last-modified", "cache-control", "content-security-policy", "x-content-type-options"):
        assert head.headers[name] == whole.headers[name] == file.headers[name]
    assert head.content == b"" and int(head.headers["content-length"]) == len(whole.content)
    for headers, status in (
        ({"If-None-Match": head.headers["etag"]}, 304),
        ({"If-Modified-Since": head.headers["last-modified"]}, 304),
        ({"If-Match": '"another"'}, 412),
        ({"Range": "bytes=0-9"}, 200),
    ):
        assert (await archive.look(**headers)).status_code == status
    archive.store(zip_of({"new": b"x"}))
    assert [
        file["name"] for file in (await archive.look(**{"If-None-Match": head.headers["etag"]})).json()["entries"]
    ] == ["new"]


@pytest.mark.parametrize("is_streamed", [False, True], ids=["sizes before", "sizes behind"])
@pytest.mark.parametrize("content", [TEXT, NOISE, b""], ids=["text", "noise", "nothing"])
async def test_what_deflate_has_packed_goes_out_as_gzip_or_inflated(
    content: bytes, is_streamed: bool, archive: Archive
) -> None:
    entry = Entry(b"mod/a.txt", content)
    archive.store(zip_from([Entry(b"before", NOISE), streamed(entry) if is_streamed else entry, Entry(b"after", TEXT)]))
    packed = await archive.entry("mod/a.txt", GZIP)
    assert packed.headers["content-encoding"] == "gzip" and gzip.decompress(packed.content) == content
    assert entry.packed() in packed.content, "not packed anew"
    plain = await archive.entry("mod/a.txt", PLAIN)
    assert plain.content == content and "content-encoding" not in plain.headers
    for answer, headers in ((packed, GZIP), (plain, PLAIN)):
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-entry-crc32"] == f"{zlib.crc32(content):08x}"
        assert answer.headers["vary"] == "accept-encoding"
        assert answer.headers["accept-ranges"] == "none"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert int(answer.headers["content-length"]) == len(answer.content)
        head = await archive.entry("mod/a.txt", headers, "HEAD")
        drop = {"date"}
        assert head.content == b"" and {*head.headers.items()} ^ {*answer.headers.items()} <= {
            pair for pair in (*head.headers.items(), *answer.headers.items()) if pair[0] in drop
        }
        again = await archive.entry("mod/a.txt", headers | {"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.headers["vary"]) == (304, "accept-encoding")
        part = await archive.entry("mod/a.txt", headers | {"Range": "bytes=0-9"})
        assert (part.status_code, part.content) == (200, answer.content)
    assert packed.headers["etag"] != plain.headers["etag"]
    other = await archive.entry("mod/a.txt", GZIP | {"If-None-Match": plain.headers["etag"]})
    assert other.status_code == 200


async def test_what_is_stored_takes_ranges(archive: Archive) -> None:
    archive.store(zip_from([Entry(b"before", TEXT), Entry(b"a.bin", NOISE, method=0), Entry(b"after", TEXT)]))
    whole = await archive.entry("a.bin", GZIP)
    assert whole.content == NOISE and "content-encoding" not in whole.headers and "vary" not in whole.headers
    assert whole.headers["accept-ranges"] == "bytes"
    etag, size = whole.headers["etag"], len(NOISE)
    for headers, status, content in (
        ({"Range": "bytes=5-9"}, 206, NOISE[5:10]),
        ({"Range": "bytes=300000-"}, 206, NOISE[300_000:]),
        ({"Range": "bytes=-7"}, 206, NOISE[-7:]),
        ({"Range": f"bytes={size}-"}, 416, b"Range not satisfiable"),
        ({"Range": "bytes=0-9", "If-Range": etag}, 206, NOISE[:10]),
        ({"Range": "bytes=0-9", "If-Range": '"another"'}, 200, NOISE),
    ):
        answer = await archive.entry("a.bin", headers)
        assert (answer.status_code, answer.content == content) == (status, True), headers
        if status == 206:
            start = NOISE.index(content)
            assert answer.headers["content-range"] == f"bytes {start}-{start + len(content) - 1}/{size}"
    several = await archive.entry("a.bin", {"Range": "bytes=0-1,5-6"})
    assert several.status_code == 206 and b"\r\n\r\n" + NOISE[5:7] + b"\r\n--" in several.content


async def test_a_tag_changes_with_the_entry_and_with_nothing_else(archive: Archive) -> None:
    async def tags() -> list[str]:
        return [(await archive.entry("a", headers)).headers["etag"] for headers in (PLAIN, GZIP)]

    archive.store(zip_from([Entry(b"a", TEXT), Entry(b"b", TEXT)]))
    known = await tags()
    archive.store(zip_from([Entry(b"0", b"new"), Entry(b"b", NOISE), Entry(b"a", TEXT)]))
    assert await tags() == known
    assert (await archive.entry("a", GZIP | {"If-None-Match": known[1]})).status_code == 304
    archive.store(zip_from([Entry(b"a", TEXT[:-1] + b"!"), Entry(b"b", TEXT)]))
    changed = await tags()
    assert not set(changed) & set(known)
    weakly_packed = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = weakly_packed.compress(TEXT) + weakly_packed.flush()
    archive.store(zip_from([Entry(b"a", TEXT, packed_as=packed)]))
    assert (await tags())[0] == known[0] and (await tags())[1] != known[1], "the same bytes, packed in another way"


async def test_an_entry_of_more_than_4_gib_is_sent(archive: Archive, distributing: Services) -> None:
    path = distributing.stored(archive.name, b"")
    size = 8 * 1024**3
    local_extra = struct.pack("<HHQQ", 1, 16, size, size)
    header = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 45, 0, 0, 0, 0x21, 0, 0xFFFFFFFF, 0xFFFFFFFF, 5, len(local_extra))
    large = Entry(b"large", method=0, extra=local_extra, packed_size=0xFFFFFFFF, size=0xFFFFFFFF, written=False)
    last = Entry(b"last", TEXT, offset=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 43 + 12 + size), written=False)
    template = zip_from([large, last])
    directory = template[: template.rindex(b"PK\5\6")]
    with path.open("wb") as file:
        file.write(header + b"large" + local_extra)
        start = file.tell()
        file.seek(start + size)
        last_at = file.tell()
        directory = directory.replace(struct.pack("<Q", 43 + 12 + size), struct.pack("<Q", last_at))
        plain = Entry(b"last", TEXT)
        file.write(zip_from([plain]).partition(b"PK\1\2")[0])
        at = file.tell()
        file.write(directory)
        end = file.tell()
        file.write(struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, len(directory), at))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    assert [file["bytes"] for file in await archive.files()] == [size, len(TEXT)]
    assert (await archive.entry("last")).content == TEXT
    head = await archive.entry("large", method="HEAD")
    assert head.headers["content-length"] == str(size)
    part = await archive.entry("large", {"Range": f"bytes={size - 3}-"})
    assert (part.status_code, part.content) == (206, b"\0\0\0")
    path.unlink()


SOUND = Entry(b"sound", TEXT)
BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "no archive": NOISE,
    "a 7z": seven_zip_of({"a": TEXT}),
    "a ZIP that is cut off": zip_of(SMALL_MOD)[:-1],
    "a ZIP without its beginning": zip_of(SMALL_MOD)[7:],
    "an encrypted entry": zip_from([SOUND, Entry(b"b", TEXT, flags=ENCRYPTED)]),
    "AES": seven_zip_of({"a": TEXT}, "-tzip", "-psecret", "-mem=AES256"),
    "another number of entries": zip_from([SOUND], count=2),
    "a directory in another place": zip_from([SOUND], directory_shift=1),
    "a piece of several": zip_from([SOUND], disk=1),
    "data in another piece": zip_from([replace(SOUND, volume=1)]),
    "overlapping entries": overlapping(TEXT),
    "one place for two entries": zip_from([SOUND, Entry(b"again", TEXT, offset=0, written=False)]),
    "data behind the directory": zip_from([replace(SOUND, packed_size=60_000, local_packed=60_000)]),
    "a header behind the directory": zip_from([replace(SOUND, offset=60_000)]),
    "two files of one name": zip_from([SOUND, Entry(b"sound", b"another")]),
    "a name that climbs": zip_from([Entry(b"a/../../b", TEXT)]),
    "an absolute name": zip_from([Entry(b"/etc/passwd", TEXT)]),
    "a drive": zip_from([Entry(b"C:b", TEXT)]),
    "a name with NUL": zip_from([Entry(b"a\0b", TEXT)]),
    "a name of too many folders": zip_from([Entry(b"a/" * 200 + b"b", TEXT)]),
    "a number that is nowhere": zip_from([replace(SOUND, size=0xFFFFFFFF)]),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_sound_zip_is_refused(content: bytes, archive: Archive) -> None:
    archive.store(content)
    for _ in range(2):
        for answer in (await archive.look(), await archive.entry("sound"), await archive.entry("sound", GZIP)):
            assert (answer.status_code, answer.text) == (400, "Unsupported format")
    # The file has the same tag elsewhere.
    known = await archive._http.head(archive.url.replace("/contents/", "/download/"))
    assert (await archive.look(**{"If-None-Match": known.headers["etag"]})).status_code == 400


LYING: dict[str, Entry] = {
    "another name": replace(SOUND, local_name=b"xound"),
    "another method": replace(SOUND, local_method=0),
    "another size": replace(SOUND, local_size=1),
    "another packed size": replace(SOUND, local_packed=1),
    "another checksum": replace(SOUND, local_crc=1),
    "encryption": replace(SOUND, local_flags=ENCRYPTED),
    "sizes that do not follow": replace(SOUND, flags=8, local_flags=0),
    "no header": replace(SOUND, before=b"x" * 9, offset=3),
    "two sizes of what is stored": replace(SOUND, method=0, size=5),
    "a method that is not sent": replace(SOUND, method=9),
    "AES": replace(SOUND, local_method=99),
}


@pytest.mark.parametrize("lying", LYING.values(), ids=LYING)
async def test_an_entry_that_contradicts_its_directory_is_refused_and_the_others_are_not(
    lying: Entry, archive: Archive
) -> None:
    archive.store(zip_from([lying, Entry(b"other", TEXT)]))
    assert [file["name"] for file in await archive.files()] == ["sound", "other"]
    for headers in (GZIP, PLAIN):
        for method in ("GET", "HEAD"):
            assert (await archive.entry("sound", headers, method)).status_code == 400
        assert (await archive.entry("sound", headers)).text == "Unsupported format"
    assert (await archive.entry("other")).content == TEXT


async def test_a_file_that_is_not_there_is_not_found(archive: Archive) -> None:
    archive.store(zip_of({"folder/a.txt": TEXT, "folder/": b""}))
    for name in ("a.txt", "folder", "folder/", "", "../folder/a.txt", "folder/a.tx", "FOLDER/a.txt", "folder/a.txt\0"):
        answer = await archive.entry(name)
        assert (answer.status_code, answer.text) == (404, "Entry not found"), name


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("temp/x", 400, "Invalid type"),
        ("resource/../avatar/x", 423, "Access denied"),
        ("resource/%2e%2e/x", 423, "Access denied"),
        ("resource/missing.zip", 404, "File not found"),
        ("archive", 404, "Not Found"),
    ],
)
async def test_types_and_paths_are_judged_as_for_downloads(
    target: str, status: int, text: str, distributing: Services
) -> None:
    answer = await raw_request(
        distributing.distributor, f"GET /contents/{target}?entry=a HTTP/1.1\r\nHost: storage\r\n\r\n".encode()
    )
    assert (answer.status, answer.body) == (status, text.encode())


async def test_protected_archives_are_looked_into_only_with_consent(
    distributing: Services, http: httpx.AsyncClient
) -> None:
    archive = Archive(distributing, http, "archive/mods/61/main.zip")
    archive.store(zip_of({"a.txt": TEXT}))
    distributing.manager.access["61"] = AccessAnswer(body={"download": {"value": False, "reason": "Buy it first"}})
    for answer in (await archive.look(), await archive.entry("a.txt"), await archive.entry("b", method="HEAD")):
        assert answer.status_code == 403
    assert (await archive.entry("a.txt")).text == "Buy it first"
    distributing.manager.access["61"] = AccessAnswer()
    allowed = await archive.entry("a.txt", PLAIN | {"Cookie": "accessToken=a"})
    assert (allowed.content, allowed.headers["cache-control"]) == (TEXT, "private, no-cache")
    assert distributing.manager.access_requests[-1].headers["cookie"] == "accessToken=a"


async def test_data_that_would_end_in_the_next_entry_are_refused(archive: Archive) -> None:
    content = bytearray(zip_from([SOUND, Entry(b"other", TEXT)]))
    content[28] = 4  # The length of the extra fields, which are none.
    archive.store(bytes(content))
    assert (await archive.entry("sound", GZIP)).status_code == 400
    assert (await archive.entry("other", GZIP)).status_code == 200


DIFFERENT: dict[str, Entry] = {
    "fewer": Entry(b"a", TEXT, size=len(TEXT) - 1),
    "more": Entry(b"a", TEXT, size=len(TEXT) + 1),
    "others": Entry(b"a", TEXT, packed_as=Entry(b"", TEXT[:-1] + b"!").packed()),
    "more behind": Entry(b"a", TEXT, packed_as=Entry(b"", TEXT).packed() + b"more"),
    "cut off": Entry(b"a", TEXT, packed_as=Entry(b"", TEXT).packed()[:-1]),
    "no Deflate": Entry(b"a", TEXT, packed_as=b"\xff" * 99),
    "no Deflate, large": Entry(b"a", NOISE, packed_as=b"\xff" * 99),
    "more than nothing": Entry(b"a", TEXT, size=0),
}
DIFFERENT_LATE: dict[str, Entry] = {
    "fewer": Entry(b"a", NOISE, size=len(NOISE) - 1),
    "more": Entry(b"a", NOISE, size=len(NOISE) + 1),
    "others": Entry(b"a", NOISE, packed_as=Entry(b"", NOISE[:-1] + b"!").packed()),
    "cut off": Entry(b"a", NOISE, packed_as=Entry(b"", NOISE).packed()[:-1]),
    "a bomb": Entry(b"a", bytes(50_000_000), size=1_000_000),
}


@pytest.mark.parametrize("different", DIFFERENT.values(), ids=DIFFERENT)
async def test_data_that_are_not_what_the_directory_says_are_not_sent(different: Entry, archive: Archive) -> None:
    archive.store(zip_from([different]))
    answer = await archive.entry("a", PLAIN)
    assert (answer.status_code, answer.text) == (400, "Unsupported format")
    with pytest.raises((zlib.error, EOFError, gzip.BadGzipFile)):
        gzip.decompress((await archive.entry("a", GZIP)).content)


@pytest.mark.parametrize("different", DIFFERENT_LATE.values(), ids=DIFFERENT_LATE)
async def test_data_that_differ_in_the_end_break_the_connection(different: Entry, archive: Archive) -> None:
    archive.store(zip_from([different]))
    with pytest.raises(httpx.RemoteProtocolError):
        await archive.entry("a", PLAIN)
    with pytest.raises((zlib.error, EOFError, gzip.BadGzipFile)):
        gzip.decompress((await archive.entry("a", GZIP)).content)


async def test_cookies_and_other_parameters_change_nothing(archive: Archive, http: httpx.AsyncClient) -> None:
    archive.store(zip_of({"a+b &c=d.txt": TEXT}))
    answer = await http.get(f"{archive.url}?filename=x&entry={quote('a+b &c=d.txt', safe='')}")
    assert answer.content == TEXT and "content-disposition" not in answer.headers
    assert (await http.get(f"{archive.url}?filename=x")).json()["entries"]


async def test_the_same_without_a_shortcut_is_not_allowed(archive: Archive, http: httpx.AsyncClient) -> None:
    archive.store(zip_of({"a": TEXT}))
    answer = await http.post(archive.url)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
