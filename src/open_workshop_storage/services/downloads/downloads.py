"""Gives out stored files (docs/API.md, "GET `/download/{type}/{path}`")."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.types import Receive, Scope, Send

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.downloads.access import AccessService, passed_cookies
from open_workshop_storage.services.downloads.block_sender import BlockSender, Source
from open_workshop_storage.services.downloads.delegates import delegate_of
from open_workshop_storage.services.downloads.plan import Plan, plan_answer
from open_workshop_storage.services.downloads.remembering import Repeatable
from open_workshop_storage.services.downloads.stored_archives import UnpackedSizes
from open_workshop_storage.services.storage.files import Files, StorageType, StoredFile
from open_workshop_storage.utils.http.media_types import attachment_name

_COOKIE = "cookie"
_READ_HEADERS = {
    name.encode(): name
    for name in (
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        _COOKIE,
    )
}
# A store elsewhere sends nothing of a file before the client is known to be one that may have it.
_PROTECTED = StorageType.ARCHIVE
_CACHE_CONTROL_OF_PROTECTED = "private, no-cache"


class Downloads:
    """Decides which client gets which file, and sends it.

    With `ACCEL_REDIRECT_PREFIX` nginx sends the files; otherwise they are read and sent here. The server's own
    path-send takes twice as long for a small file, and more for a large one: it opens and reads in threads whatever
    the page cache has.

    Args:
        files: What it gives out.
        access: Asked for protected files.

    Attributes:
        blocks: What sends all that this worker gives out.
    """

    def __init__(self, files: Files, access: AccessService, unpacked_sizes: UnpackedSizes, settings: Settings) -> None:
        self._files = files
        self._access = access
        self._cache_control = settings.cache_control
        self._delegate = delegate_of(settings)
        self._unpacked_sizes = unpacked_sizes
        self.blocks = BlockSender(files.block_bytes)

    async def answer(
        self, storage_type: str, path: str, filename: str | None, scope: Scope, receive: Receive, send: Send
    ) -> Repeatable:
        """Answer a GET or HEAD request for a stored file.

        Args:
            filename: What to save the file as, without its extension.

        Returns:
            The answer.

        Raises:
            StorageError: As in `Files.find`, and for a protected file as in `AccessService.check`.
            OSError: It cannot be opened.
        """
        requested = _requested(scope)
        cookies = requested.pop(_COOKIE, "")
        name = attachment_name(filename)
        may_open = storage_type != _PROTECTED or not self._files.fetches_on_opening
        if scope["method"] == "GET" and not requested and self._delegate is None and may_open:
            # The whole file is wanted, and there is nothing to decide about it but whether the client may have it.
            async with self._files.open((storage_type, path)) as opened:
                await self._check(opened.file, cookies)
                plan = await self._plan_for("GET", requested, opened.file, name)
                await self.send(plan, opened, scope, receive, send)
                return Repeatable(opened.file, plan)
        file = await self._files.find(storage_type, path)
        await self._check(file, cookies)
        return await self.send_file(file, name, requested, scope, receive, send)

    async def find(self, storage_type: str, path: str, scope: Scope) -> tuple[StoredFile, dict[str, str]]:
        """Look a file up that this client may have; return it, and the request's conditional and range headers.

        Raises:
            StorageError: As in `answer`.
        """
        requested = _requested(scope)
        file = await self._files.find(storage_type, path)
        await self._check(file, requested.pop(_COOKIE, ""))
        return file, requested

    async def _check(self, file: StoredFile, cookies: str) -> None:
        if file.mod_id is not None:
            await self._access.check(file.mod_id, passed_cookies(cookies))

    def cache_control(self, file: StoredFile) -> str:
        """Return how long caches may keep what comes of a file; empty to leave that to them."""
        is_public = file.mod_id is None
        return self._cache_control[file.storage_type] if is_public else _CACHE_CONTROL_OF_PROTECTED

    async def send_file(
        self,
        file: StoredFile,
        filename: str | None,
        requested: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> Repeatable:
        """Answer with a stored file, parts of it, or the news that the client has it already.

        Args:
            file: As it was looked up.
            filename: What to save it as, as `attachment_name` returns it.
            requested: The request's conditional and range headers, by lower-case name.

        Returns:
            The answer.

        Raises:
            FileMissing: The file went away before the answer began.
            OSError: As in `answer`.
        """
        plan = await self._plan_for(scope["method"], requested, file, filename)
        part = next((piece for piece in plan.pieces if isinstance(piece, range)), None)
        if part is not None:
            async with self._files.open(file, part) as opened:
                # Replaced since it was looked up? Parts and validators must be those of one version.
                if opened.file is not file:
                    plan = await self._plan_for("GET", requested, opened.file, filename)
                await self.send(plan, opened, scope, receive, send)
                return Repeatable(opened.file, plan)
        if scope["method"] == "HEAD" and plan.status == HTTPStatus.OK and file.mod_id is not None:
            size = await self._unpacked_sizes.get(file)
            if size is not None:
                plan.headers.append((b"x-unpacked-bytes", str(size).encode()))
        await self.send(plan, None, scope, receive, send)
        return Repeatable(file, plan)

    async def send(self, plan: Plan, source: Source | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Send an answer as it is planned.

        Args:
            source: What the ranges among its pieces are read of; None if there is none.
        """
        await send({"type": "http.response.start", "status": int(plan.status), "headers": plan.headers})
        if source is not None:
            await self.blocks.send(source, plan.pieces, receive, send)
            return
        body = b"".join(piece for piece in plan.pieces if isinstance(piece, bytes))
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _plan_for(
        self, method: str, requested: Mapping[str, str], file: StoredFile, filename: str | None
    ) -> Plan:
        facts = await self._files.facts(file)
        sha256 = facts.sha256 if facts is not None else None
        plan = plan_answer(method, requested, file, filename, self.cache_control(file), sha256)
        return plan if self._delegate is None else self._delegate(plan, requested, file)


def _requested(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = _READ_HEADERS.get(raw_name)
        if name is not None:
            value = raw_value.decode("latin-1")
            separator = "; " if name == _COOKIE else ", "
            headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
    return headers
