"""Forms with a file, from their first byte to the file in its place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from open_workshop_storage.core.errors import (
    AccessDenied,
    BadRequest,
    FileTooLarge,
    ImageExpected,
    InvalidType,
    MalwareFound,
    PathOutsideStorage,
    ScannerUnavailable,
    ServiceUnavailable,
    StorageError,
    TokenMissing,
    UploadTimedOut,
)
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.intake.scan import Scanner
from open_workshop_storage.services.manager import file_uploads
from open_workshop_storage.services.manager.file_uploads import FileUploads, UntrustedForm, UntrustedForms
from open_workshop_storage.services.manager.form_tokens import FormTokens
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.workspaces import Workspaces
from tests.support.clamd import MARKER, Clamd
from tests.support.configs import Secrets
from tests.support.in_process import make_settings

pytestmark = pytest.mark.anyio

BOUNDARY = b"boundary"
SECRETS = Secrets()
FIELDS = {"token": SECRETS.upload_file, "type": "resource", "path": "a/b.bin"}
CONTENT = bytes(range(256)) * 8000


@pytest.fixture
async def images() -> AsyncIterator[Images]:
    async with aclosing(Images()) as children:
        yield children


def uploads(folder: Path, images: Images, **settings: object) -> FileUploads:
    configured = make_settings(folder, SECRETS, **settings)
    scanner = Scanner(configured)
    return FileUploads(configured, LocalFiles(folder), Workspaces(folder), images, scanner, FormTokens(configured))


def field(name: str, value: bytes, file_name: str = "") -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{file_name}"' if file_name else "")
    return b"--boundary\r\nContent-Disposition: %s\r\n\r\n%s\r\n" % (disposition.encode(), value)


def form(fields: dict[str, str], content: bytes | None = CONTENT, *, file_first: bool = True) -> bytes:
    """Return a form, with the file first as the Manager sends it unless told otherwise."""
    others = b"".join(field(name, value.encode()) for name, value in fields.items())
    file = b"" if content is None else field("file", content, "upload")
    return (file + others if file_first else others + file) + b"--boundary--\r\n"


async def pieces(body: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def send(receiver: FileUploads, body: bytes) -> str:
    return await receiver.store(BOUNDARY, pieces(body), len(body))


@pytest.mark.parametrize("file_first", [True, False])
async def test_a_file_is_stored_wherever_its_token_stands(file_first: bool, tmp_path: Path, images: Images) -> None:
    assert await send(uploads(tmp_path, images), form(FIELDS, file_first=file_first)) == "a/b.bin"
    assert (tmp_path / "resource/a/b.bin").read_bytes() == CONTENT
    assert not any((tmp_path / "temp").iterdir())


async def test_an_image_becomes_a_webp(tmp_path: Path, images: Images) -> None:
    picture = BytesIO()
    Image.new("RGB", (4, 3)).save(picture, "PNG")
    fields = FIELDS | {"file_kind": "img", "type": "avatar", "path": "7.webp"}
    await send(uploads(tmp_path, images), form(fields, picture.getvalue()))
    with Image.open(tmp_path / "avatar/7.webp") as stored:
        assert (stored.format, stored.size) == ("WEBP", (4, 3))


@pytest.mark.parametrize("failure", ["refuse", "pass", "wait"])
async def test_malware_is_not_placed(failure: str, clamd: Clamd, tmp_path: Path, images: Images) -> None:
    receiver = uploads(tmp_path, images, clamd_address=clamd.local, scan_failure=failure)
    await send(receiver, form(FIELDS))
    with pytest.raises(MalwareFound):
        await send(receiver, form(FIELDS | {"path": "evil.bin"}, CONTENT + MARKER))
    assert [path.name for path in (tmp_path / "resource").rglob("*.bin")] == ["b.bin"]
    assert not any((tmp_path / "temp").iterdir())


async def test_a_file_that_cannot_be_judged_is_refused_and_an_image_need_not_be(tmp_path: Path, images: Images) -> None:
    receiver = uploads(tmp_path, images, clamd_address=f"unix:{tmp_path}/no-such-socket")
    with pytest.raises(ScannerUnavailable):
        await send(receiver, form(FIELDS))
    assert not any((tmp_path / "temp").iterdir())
    picture = BytesIO()
    Image.new("RGB", (4, 3)).save(picture, "PNG")
    await send(receiver, form(FIELDS | {"file_kind": "img", "path": "7.webp"}, picture.getvalue()))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"token": ""}, TokenMissing, "Token not found"),
        ({"token": "wrong", "type": "nonsense"}, AccessDenied, "Access denied"),
        ({"type": "archive"}, InvalidType, "Invalid type"),
        ({"file_kind": "exe"}, BadRequest, "Invalid file kind"),
        ({"type": "avatar"}, BadRequest, "Avatar requires image file kind"),
        ({"file_kind": "img"}, BadRequest, r"Image storage path must end with \.webp"),
        ({"file_kind": "img", "path": "a.webp"}, ImageExpected, "Image expected"),
        ({"path": "../a"}, PathOutsideStorage, "Access denied"),
    ],
)
@pytest.mark.parametrize("file_first", [True, False])
async def test_a_form_that_is_refused_leaves_nothing(
    changes: dict[str, str],
    error: type[StorageError],
    message: str,
    file_first: bool,
    tmp_path: Path,
    images: Images,
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        await send(uploads(tmp_path, images), form(FIELDS | changes, file_first=file_first))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path]
    assert not any((tmp_path / "temp").iterdir())


async def test_a_form_without_a_file_or_without_its_end_is_refused(tmp_path: Path, images: Images) -> None:
    receiver = uploads(tmp_path, images)
    with pytest.raises(BadRequest, match="^File missing$"):
        await send(receiver, form(FIELDS, None))
    with pytest.raises(BadRequest, match="^Malformed form$"):
        await send(receiver, form(FIELDS)[:-20])


async def test_a_file_over_the_limit_is_refused_announced_or_not(tmp_path: Path, images: Images) -> None:
    receiver = uploads(tmp_path, images, upload_max_bytes=1000)
    with pytest.raises(FileTooLarge):
        await receiver.store(BOUNDARY, pieces(b""), 1_000_000)
    with pytest.raises(FileTooLarge):
        await receiver.store(BOUNDARY, pieces(form(FIELDS, bytes(1001), file_first=False)), None)
    await receiver.store(BOUNDARY, pieces(form(FIELDS, bytes(1000))), None)


async def unfinished(begun: asyncio.Event, size: int) -> AsyncIterator[bytes]:
    """Send so much of a file, and then nothing more."""
    yield form(FIELDS, bytes(size + 100))[:size]
    begun.set()
    await asyncio.Event().wait()


async def test_files_without_tokens_share_a_limit_and_the_silent_one_makes_room(tmp_path: Path, images: Images) -> None:
    receiver, begun = uploads(tmp_path, images, upload_untrusted_max_bytes=1_000_000), asyncio.Event()
    silent = asyncio.create_task(receiver.store(BOUNDARY, unfinished(begun, 700_000), None))
    await begun.wait()
    await send(receiver, form(FIELDS, bytes(900_000), file_first=False))
    assert not silent.done(), "a token that comes first takes nothing from the others"
    await send(receiver, form(FIELDS, bytes(900_000)))
    with pytest.raises(ServiceUnavailable):
        await silent
    with pytest.raises(FileTooLarge, match="^Send the token before the file$"):
        await send(receiver, form(FIELDS, bytes(2_000_000)))
    assert not any((tmp_path / "temp").iterdir())


async def test_unfinished_forms_without_tokens_take_no_thread_and_no_file(tmp_path: Path, images: Images) -> None:
    receiver = uploads(tmp_path, images)
    threads = threading.active_count()
    begun = [asyncio.Event() for _ in range(20)]
    waiting = [asyncio.create_task(receiver.store(BOUNDARY, unfinished(event, 3_000_000), None)) for event in begun]
    for event in begun:
        await event.wait()
    assert threading.active_count() <= threads
    assert not any((tmp_path / "temp").iterdir())
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_a_form_that_falls_silent_before_its_token_times_out(tmp_path: Path, images: Images) -> None:
    receiver = uploads(tmp_path, images, transfer_idle_timeout_seconds=0.05)
    with pytest.raises(UploadTimedOut):
        await receiver.store(BOUNDARY, unfinished(asyncio.Event(), 1000), None)


@pytest.fixture
def few_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_uploads, "_MOST_UNTRUSTED", 3)


class Sender:
    """A form that stands still until it is ended."""

    def __init__(self, forms: UntrustedForms) -> None:
        self._forms = forms
        self._form: UntrustedForm | None = None
        self._admitted = asyncio.Event()
        self._task = asyncio.create_task(self._stand_still())

    async def _stand_still(self) -> None:
        async with self._forms.admitted() as self._form:
            self._admitted.set()
            await asyncio.Event().wait()

    async def send(self, size: int) -> None:
        await self._admitted.wait()
        assert self._form is not None
        self._forms.hold(self._form, [bytes(size)])

    async def end(self) -> StorageError | None:
        """Let what is due happen; return what the form has ended with, and end it if it goes on."""
        await asyncio.sleep(0.01)
        self._task.cancel()
        (result,) = await asyncio.gather(self._task, return_exceptions=True)
        return result if isinstance(result, StorageError) else None


@pytest.mark.usefixtures("few_forms")
async def test_one_too_many_ends_the_one_that_has_been_silent_longest() -> None:
    forms = UntrustedForms(100)
    senders = [Sender(forms) for _ in range(3)]
    await senders[2].send(0)
    await senders[0].send(1)
    fourth = Sender(forms)
    await fourth.send(0)
    ends = [await sender.end() for sender in (*senders, fourth)]
    assert [type(end) for end in ends] == [type(None), ServiceUnavailable, type(None), type(None)]


@pytest.mark.usefixtures("few_forms")
async def test_too_many_bytes_end_silent_ones_and_never_the_one_that_sends() -> None:
    forms = UntrustedForms(100)
    senders = [Sender(forms) for _ in range(3)]
    for sender in senders:
        await sender.send(30)
    await senders[1].send(60)
    with pytest.raises(FileTooLarge, match="^Send the token before the file$"):
        await senders[1].send(11)
    ends = [await sender.end() for sender in senders]
    assert [type(end) for end in ends] == [ServiceUnavailable, type(None), ServiceUnavailable]


@pytest.mark.usefixtures("few_forms")
async def test_a_form_whose_bytes_have_made_room_ends_though_its_token_comes_at_that_moment() -> None:
    forms = UntrustedForms(100)
    with pytest.raises(ServiceUnavailable):
        async with forms.admitted() as first:
            forms.hold(first, [bytes(60)])
            async with forms.admitted() as second:
                forms.hold(second, [bytes(60)])
            assert (len(first.held), len(second.held)) == (0, 60)
    with pytest.raises(ServiceUnavailable):
        forms.hold(first, [bytes(1)])


async def test_a_token_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_uploads, "_TOKEN_SECONDS", 0.05)
    with pytest.raises(UploadTimedOut):
        async with UntrustedForms(100).admitted():
            await asyncio.Event().wait()


@pytest.mark.usefixtures("few_forms")
async def test_trusted_forms_do_not_count() -> None:
    forms = UntrustedForms(100)
    for _ in range(10):
        async with forms.admitted() as form:
            forms.hold(form, [bytes(90)])
        assert len(form.held) == 90
