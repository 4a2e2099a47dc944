"""`/upload` and `/delete`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.types import Message

from open_workshop_storage.api.routes.files import router
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.services.storage.local_file import kept_facts, version_of
from tests.support.configs import Secrets
from tests.support.in_process import make_settings, serving

pytestmark = pytest.mark.anyio

BOUNDARY = "the-boundary"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
LIMIT = 500_000

# One part of a form: its name, its content, and the file's name if it is a file.
Part = tuple[str, bytes | str] | tuple[str, bytes | str, str]


@dataclass
class Loader:
    """The file routes over a storage root of their own."""

    app: FastAPI
    client: httpx.AsyncClient
    secrets: Secrets
    main_dir: Path

    async def upload(self, content: bytes = b"content", **fields: str) -> httpx.Response:
        fields = {"token": self.secrets.upload_file, "type": "resource", "path": "a/b.bin", **fields}
        return await self.client.post("/upload", data=fields, files={"file": ("name.bin", content)})

    async def delete(self, **fields: str) -> httpx.Response:
        fields = {"token": self.secrets.delete_file, "type": "resource", **fields}
        return await self.client.request("DELETE", "/delete", data=fields)

    def stored(self, path: str) -> bytes:
        return (self.main_dir / path).read_bytes()

    def put(self, path: str, content: bytes = b"old") -> Path:
        target = self.main_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    def files(self) -> set[str]:
        """Return the paths of all files below the root, but for what is remembered of tokens."""
        found = {str(path.relative_to(self.main_dir)) for path in self.main_dir.rglob("*") if path.is_file()}
        return {path for path in found if not path.startswith(".form-token-")}


@pytest.fixture(scope="module")
def shared_secrets() -> Secrets:
    return Secrets()


@pytest.fixture
async def start(tmp_path: Path, shared_secrets: Secrets) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def run(**changes: object) -> Loader:
            settings = make_settings(tmp_path / "storage", shared_secrets, **changes)
            app, client = await stack.enter_async_context(serving(router, settings))
            return Loader(app, client, shared_secrets, settings.main_dir)

        yield run


@pytest.fixture
async def loader(start: Any) -> Loader:
    started: Loader = await start(upload_max_bytes=LIMIT)
    return started


def picture(image_format: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, (200, 30, 60)).save(file, image_format)
    return file.getvalue()


def form(parts: Sequence[Part], end: bytes = b"--\r\n") -> bytes:
    """Return a multipart body whose parts come in this order."""
    body = b""
    for name, content, *filename in parts:
        disposition = f'form-data; name="{name}"' + "".join(f'; filename="{each}"' for each in filename)
        content = content if isinstance(content, bytes) else content.encode()
        body += f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}".encode() + end


def assert_text(answer: httpx.Response, status: int, text: str) -> None:
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["content-type"].startswith("text/plain")


# Storing


async def test_a_file_is_stored_as_it_is(loader: Loader) -> None:
    assert_text(await loader.upload(b"\0binary\r\n--the-boundary", path="mods/7/data.bin"), 201, "mods/7/data.bin")
    assert loader.stored("resource/mods/7/data.bin") == b"\0binary\r\n--the-boundary"


async def test_a_files_digest_is_kept_with_it(start: Any) -> None:
    loader: Loader = await start()
    await loader.upload(os.urandom(700_000), path="large")
    await loader.upload(b"small", path="small")
    await loader.upload(picture(), type="avatar", path="7.webp", file_kind="img")
    for path in ("resource/large", "resource/small", "avatar/7.webp"):
        file = loader.main_dir / path
        facts = kept_facts(str(file), version_of(file.stat()))
        assert facts == Facts(sha256=sha256(file.read_bytes()).hexdigest())


async def test_an_existing_file_is_replaced(loader: Loader) -> None:
    loader.put("resource/a/b.bin", b"longer than the new content")
    await loader.upload(b"new")
    assert loader.stored("resource/a/b.bin") == b"new"


async def test_an_empty_file_is_a_file(loader: Loader) -> None:
    assert (await loader.upload(b"")).status_code == 201
    assert loader.stored("resource/a/b.bin") == b""


@pytest.mark.parametrize("storage_type", ["resource", "avatar"])
async def test_an_image_is_normalised(storage_type: str, loader: Loader) -> None:
    answer = await loader.upload(picture("JPEG"), type=storage_type, path="users/1.webp", file_kind="img")
    assert_text(answer, 201, "users/1.webp")
    assert Image.open(BytesIO(loader.stored(f"{storage_type}/users/1.webp"))).format == "WEBP"


async def test_nothing_but_the_file_is_left(loader: Loader) -> None:
    await loader.upload(b"content")
    await loader.upload(picture(), path="c.webp", file_kind="img")
    await loader.upload(b"no image", path="d.webp", file_kind="img")
    assert loader.files() == {"resource/a/b.bin", "resource/c.webp"}


@pytest.mark.parametrize("size", [1, 1000, 70_000])
async def test_a_form_may_come_in_pieces_of_any_size(size: int, loader: Loader) -> None:
    # All but a boundary, at every place where a piece may end.
    content = b"\r\n--the-boundar\r\n--the-\r\r\n-" * (20 if size == 1 else 10_000)
    body = form([("token", loader.secrets.upload_file), ("type", "resource"), ("path", "x"), ("file", content, "n")])

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    answer = await loader.client.post("/upload", content=pieces(), headers=MULTIPART)
    assert answer.status_code == 201
    assert loader.stored("resource/x") == content


async def test_the_fields_may_come_after_the_file(loader: Loader) -> None:
    parts: list[Part] = [("file", b"content", "n"), ("path", "x"), ("type", "resource")]
    body = form([*parts, ("token", loader.secrets.upload_file)])
    assert_text(await loader.client.post("/upload", content=body, headers=MULTIPART), 201, "x")
    body = form([*parts, ("token", "wrong")])
    loader.put("resource/x", b"old")
    assert_text(await loader.client.post("/upload", content=body, headers=MULTIPART), 403, "Access denied")
    assert loader.stored("resource/x") == b"old"
    assert loader.files() == {"resource/x"}


# Refusing


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"token": ""}, 401, "Token not found"),
        ({"token": "wrong"}, 403, "Access denied"),
        ({"token": "wrong", "type": "nonsense", "path": "../x"}, 403, "Access denied"),
        ({"type": "archive"}, 400, "Invalid type"),
        ({"type": ""}, 400, "Invalid type"),
        ({"type": "../resource"}, 400, "Invalid type"),
        ({"file_kind": "video"}, 400, "Invalid file kind"),
        ({"type": "avatar"}, 400, "Avatar requires image file kind"),
        ({"type": "avatar", "file_kind": "bin", "path": "x.webp"}, 400, "Avatar requires image file kind"),
        ({"file_kind": "img", "path": "x.png"}, 400, "Image storage path must end with .webp"),
        ({"file_kind": "img", "path": "x.webp"}, 400, "Image expected"),
        ({"path": "../avatar/x"}, 423, "Access denied"),
        ({"path": "/etc/passwd"}, 423, "Access denied"),
        ({"path": "..%2fx"}, 423, "Access denied"),
        ({"path": ""}, 400, "Invalid path"),
        ({"path": "folder/"}, 400, "Invalid path"),
    ],
)
async def test_what_is_wrong_is_said(fields: dict[str, str], status: int, text: str, loader: Loader) -> None:
    assert_text(await loader.upload(b"content", **fields), status, text)
    assert loader.files() == set()


async def test_a_missing_token_comes_before_all_else(loader: Loader) -> None:
    requests: list[dict[str, Any]] = [
        {},
        {"data": {"type": "resource"}},
        {"json": {"token": loader.secrets.upload_file}},
        {"content": b"raw bytes" * 20_000},
        {"files": {"file": b"content"}},
        {"data": {"token": ""}, "files": {"file": b"content"}},
    ]
    for arguments in requests:
        assert_text(await loader.client.post("/upload", **arguments), 401, "Token not found")


async def test_a_missing_file_is_said(loader: Loader) -> None:
    fields = {"token": loader.secrets.upload_file, "type": "resource", "path": "x"}
    assert_text(await loader.client.post("/upload", data=fields), 400, "File missing")
    body = form(list(fields.items()))
    assert_text(await loader.client.post("/upload", content=body, headers=MULTIPART), 400, "File missing")
    assert loader.files() == set()


async def test_an_image_of_too_many_pixels_is_refused(loader: Loader) -> None:
    file = BytesIO()
    Image.new("1", (16_384, 1)).save(file, "PNG")
    answer = await loader.upload(file.getvalue(), path="x.webp", file_kind="img")
    assert_text(answer, 413, "Image too large")


async def test_a_file_over_the_limit_is_refused(loader: Loader) -> None:
    assert (await loader.upload(bytes(LIMIT))).status_code == 201
    assert_text(await loader.upload(bytes(LIMIT + 1)), 413, "File too large")
    assert loader.files() == {"resource/a/b.bin"}


async def endless(loader: Loader, token: str) -> AsyncIterator[bytes]:
    """Yield a form whose file goes on for 10 MB, without a length."""
    beginning = form([("token", token), ("type", "resource"), ("path", "x"), ("file", b"", "n")], end=b"")
    yield beginning[: beginning.rindex(b"\r\n--")]
    for _ in range(100):
        yield bytes(100_000)


async def test_a_file_without_a_length_is_refused_once_it_is_too_large(loader: Loader) -> None:
    body = endless(loader, loader.secrets.upload_file)
    answer = await loader.client.post("/upload", content=body, headers=MULTIPART)
    assert_text(answer, 413, "File too large")
    assert loader.files() == set()


async def test_the_disks_reserve_is_left_free(start: Any) -> None:
    loader = await start(storage_reserve_bytes=1 << 60)
    assert_text(await loader.upload(), 507, "No space left")
    assert loader.files() == set()


async def test_a_missing_storage_root_is_waited_for(start: Any) -> None:
    loader = await start()
    loader.main_dir.rename(loader.main_dir.with_name("elsewhere"))
    answer = await loader.upload()
    assert_text(answer, 503, "Service unavailable")
    assert "retry-after" in answer.headers
    assert not loader.main_dir.exists()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"no form at all", id="no form"),
        pytest.param(form([("token", "{token}")], end=b""), id="no end"),
        pytest.param(form([("token", "{token}"), ("file", b"content", "n")], end=b""), id="no end of the file"),
        pytest.param(form([("token", "{token}"), ("path", b"\xff\xfe")]), id="no UTF-8"),
        pytest.param(form([("token", "{token}"), ("path", bytes(20_000))]), id="a huge field"),
        pytest.param(form([("token", "{token}")] + [(f"f{i}", "") for i in range(40)]), id="too many fields"),
        pytest.param(form([("token", "{token}"), ("file", b"1", "n"), ("file", b"2", "n")]), id="two files"),
        pytest.param(form([("token", "{token}")]).replace(b' name="token"', b""), id="a part without a name"),
    ],
)
async def test_a_malformed_form_is_refused(body: bytes, loader: Loader) -> None:
    body = body.replace(b"{token}", loader.secrets.upload_file.encode())
    assert_text(await loader.client.post("/upload", content=body, headers=MULTIPART), 400, "Malformed form")
    assert loader.files() == set()


@pytest.mark.parametrize("content_type", ["multipart/form-data", f"multipart/form-data; boundary={'x' * 300}"])
async def test_a_form_without_a_usable_boundary_is_refused(content_type: str, loader: Loader) -> None:
    answer = await loader.client.post("/upload", content=form([]), headers={"Content-Type": content_type})
    assert_text(answer, 400, "Malformed form")


async def call(app: FastAPI, messages: list[Message]) -> list[Message]:
    """Send a request message by message, then nothing; return the answer's messages."""
    answer = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        answer.append(message)

    headers = [(name.lower().encode(), value.encode()) for name, value in MULTIPART.items()]
    scope = {"type": "http", "method": "POST", "path": "/upload", "headers": headers, "query_string": b""}
    await app({**scope, "http_version": "1.1", "scheme": "http", "server": ("storage", 80)}, receive, send)
    return answer


async def test_nothing_is_left_of_a_client_that_goes_away(loader: Loader) -> None:
    body = b"".join([piece async for piece in endless(loader, loader.secrets.upload_file)])[:300_000]
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": True}, {"type": "http.disconnect"}]
    await call(loader.app, parts)
    assert loader.files() == set()


# Removing


@pytest.mark.parametrize("storage_type", ["archive", "resource", "avatar"])
async def test_a_file_is_removed_with_the_folders_that_are_empty_without_it(storage_type: str, loader: Loader) -> None:
    loader.put(f"{storage_type}/kept/other")
    loader.put(f"{storage_type}/kept/a/b/c.bin")
    assert_text(await loader.delete(type=storage_type, path="kept/a/b/c.bin"), 200, "File deleted")
    assert loader.files() == {f"{storage_type}/kept/other"}
    assert not (loader.main_dir / storage_type / "kept/a").exists()


async def test_the_types_root_stays(loader: Loader) -> None:
    loader.put("resource/a")
    await loader.delete(path="a")
    assert (loader.main_dir / "resource").is_dir()


async def test_a_form_for_removing_may_be_multipart(loader: Loader) -> None:
    loader.put("resource/ü.bin")
    body = form([("type", "resource"), ("path", "ü.bin"), ("token", loader.secrets.delete_file)])
    answer = await loader.client.request("DELETE", "/delete", content=body, headers=MULTIPART)
    assert_text(answer, 200, "File deleted")


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"token": ""}, 401, "Token not found"),
        ({"token": "wrong", "path": "../x"}, 403, "Access denied"),
        ({"path": "missing"}, 404, "File not found"),
        ({"path": "folder"}, 404, "File not found"),
        ({"path": "folder/"}, 404, "File not found"),
        ({"path": "folder/file/below"}, 404, "File not found"),
        ({"path": ""}, 400, "Path missing"),
        ({"type": "temp", "path": "x"}, 400, "Invalid type"),
        ({"path": "../avatar/x"}, 403, "Access denied"),
        ({"path": "/etc/passwd"}, 403, "Access denied"),
        ({"path": "%2e%2e/x"}, 403, "Access denied"),
        ({"path": "link/x"}, 403, "Access denied"),
    ],
)
async def test_what_cannot_be_removed_is_said(fields: dict[str, str], status: int, text: str, loader: Loader) -> None:
    loader.put("resource/folder/file")
    loader.put("avatar/x")
    (loader.main_dir / "resource/link").symlink_to("../avatar")
    assert_text(await loader.delete(**fields), status, text)
    assert loader.files() == {"resource/folder/file", "avatar/x"}


async def test_the_upload_token_does_not_remove(loader: Loader) -> None:
    loader.put("resource/x")
    assert_text(await loader.delete(path="x", token=loader.secrets.upload_file), 403, "Access denied")


@pytest.mark.parametrize(
    ("content_type", "body", "status", "text"),
    [
        ("application/x-www-form-urlencoded", b"", 401, "Token not found"),
        ("application/json", b'{"token": "x"}', 401, "Token not found"),
        ("text/plain", b"x", 401, "Token not found"),
        ("application/x-www-form-urlencoded", b"path=%ff", 400, "Malformed form"),
        ("application/x-www-form-urlencoded", b"&".join([b"a=b"] * 100), 400, "Malformed form"),
        ("application/x-www-form-urlencoded", b"a=" + bytes(100_000), 400, "Request body too large"),
        (MULTIPART["Content-Type"], b"--the-boundary", 400, "Malformed form"),
    ],
)
async def test_an_odd_body_is_refused(content_type: str, body: bytes, status: int, text: str, loader: Loader) -> None:
    headers = {"Content-Type": content_type}
    assert_text(await loader.client.request("DELETE", "/delete", content=body, headers=headers), status, text)


# Documents


async def test_the_documents_let_a_reader_try_the_calls(loader: Loader) -> None:
    document = (await loader.client.get("/openapi.json")).json()
    upload, delete = document["paths"]["/upload"]["post"], document["paths"]["/delete"]["delete"]
    schema = upload["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["file"]["format"] == "binary"
    assert schema["properties"].keys() == {"file", "type", "path", "file_kind", "token"}
    assert list(delete["requestBody"]["content"]) == ["application/x-www-form-urlencoded"]
    assert upload["responses"].keys() >= {"201", "400", "401", "403", "413", "423", "503", "507"}
    assert delete["responses"].keys() >= {"200", "400", "401", "403", "404"}
    assert "422" not in upload["responses"].keys() | delete["responses"].keys()
    assert list(upload["responses"]["201"]["content"]) == ["text/plain"]
