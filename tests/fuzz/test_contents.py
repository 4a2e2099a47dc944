"""ZIPs with bytes changed, looked into."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tempfile
import zipfile
import zlib
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from starlette.types import Message, Scope

from open_workshop_storage.core.errors import StorageError, UnsupportedFormat
from open_workshop_storage.services.downloads.access import AccessService
from open_workshop_storage.services.downloads.contents import Contents
from open_workshop_storage.services.downloads.downloads import Downloads
from open_workshop_storage.services.downloads.stored_archives import UnpackedSizes
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.utils.archives.faults import ArchiveFault
from open_workshop_storage.utils.net.http_connections import Connections
from tests.archives.zips import Entry, streamed, zip_from
from tests.fuzz.test_archives import CHANGES, FILES, changed
from tests.support.archives import zip_of
from tests.support.configs import Secrets
from tests.support.in_process import make_settings

SOUND = {
    "deflated": zip_of(FILES),
    "stored": zip_of(FILES, 0),
    "sizes after the data": zip_from([streamed(Entry(b"a", b"text " * 99)), streamed(Entry(b"b", bytes(99)))]),
}


class Looker:
    """Asks for what is in a ZIP as an HTTP server would."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    async def ask(self, entry: str | None, coding: bytes = b"identity") -> bytes | None:
        """Return a body, None if it is refused or breaks off."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            await asyncio.Event().wait()
            return {}

        scope: Scope = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", coding)]}
        try:
            await self._contents.answer("archive", "x.zip", entry, scope, receive, send)
        except ArchiveFault:
            assert sent, "a fault that should have become an answer"
            return None
        except StorageError as error:
            assert isinstance(error, UnsupportedFormat) and not sent
            return None
        body = b"".join(bytes(message.get("body", b"")) for message in sent)
        assert int(dict(sent[0]["headers"])[b"content-length"]) == len(body)
        return body


async def look(archive: bytes, folder: Path) -> None:
    """Ask for the listing and for each file; what is sent has to be what is listed, or not to be gzip."""
    app_settings = make_settings(folder, Secrets())
    files = LocalFiles(folder)
    (folder / "archive" / "x.zip").write_bytes(archive)
    downloads = Downloads(
        files, AccessService(Connections(1, 0), "http://storage", 1), UnpackedSizes(files), app_settings
    )
    async with aclosing(Contents(files, downloads)) as contents:
        looker = Looker(contents)
        listing = await looker.ask(None)
        if listing is None:
            assert await looker.ask("mod/a.txt") is None
            return
        for told in json.loads(listing)["entries"]:
            plain, packed = await looker.ask(told["name"]), await looker.ask(told["name"], b"gzip")
            if plain is None:
                assert packed is None or not is_whole(packed)
                continue
            assert packed is not None and (packed == plain or gzip.decompress(packed) == plain)
            assert len(plain) == told["bytes"]
            if packed != plain:
                assert f"{zlib.crc32(plain):08x}" == told["crc32"]
            assert plain == in_python(archive, told["name"], plain)


def is_whole(packed: bytes) -> bool:
    try:
        gzip.decompress(packed)
    except (zlib.error, EOFError, gzip.BadGzipFile):
        return False
    return True


def in_python(archive: bytes, name: str, otherwise: bytes) -> bytes:
    """Return what Python's own reader makes of a file, as far as it reads this archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return opened.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError):
        return otherwise


@pytest.mark.parametrize("form", SOUND)
@given(CHANGES)
@settings(deadline=None, max_examples=max(8, settings().max_examples // 3))
def test_a_changed_zip_gives_what_it_lists_or_nothing(form: str, changes: list[tuple[float, bytes, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(look(changed(SOUND[form], changes), Path(folder)))


@pytest.mark.parametrize("form", SOUND)
def test_one_that_was_not_changed_gives_all(form: str, tmp_path: Path) -> None:
    asyncio.run(look(SOUND[form], tmp_path))
