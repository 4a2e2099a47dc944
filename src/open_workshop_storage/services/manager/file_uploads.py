"""Receives the files that the Manager uploads itself (docs/API.md, "POST `/upload`")."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from open_workshop_storage.core.errors import BadRequest, FileTooLarge, InvalidType, ServiceUnavailable, UploadTimedOut
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.intake.receive import BLOCK_BYTES, receive, upload_limits
from open_workshop_storage.services.intake.scan import Scanner
from open_workshop_storage.services.manager.form_tokens import FormToken, FormTokens
from open_workshop_storage.services.storage.files import Facts, Files, StorageType
from open_workshop_storage.services.storage.workspaces import Workspaces, discard
from open_workshop_storage.utils.files.digests import FileDigest
from open_workshop_storage.utils.http.forms import MAX_BYTES_BESIDES_FILE, FormError, MultipartReader
from open_workshop_storage.utils.processes.threads import run_until_stopped

_logger = logging.getLogger(__name__)

UPLOADABLE = (StorageType.RESOURCE, StorageType.AVATAR)
FILE_KINDS = ("bin", "img")
_MOST_UNTRUSTED = 128
_TOKEN_SECONDS = 60.0


class FileUploads:
    """Receives forms with a file, and puts the file in its place."""

    def __init__(
        self,
        settings: Settings,
        files: Files,
        workspaces: Workspaces,
        images: Images,
        scanner: Scanner,
        form_tokens: FormTokens,
    ) -> None:
        self._settings = settings
        self._files = files
        self._workspaces = workspaces
        self._images = images
        self._scanner = scanner
        self._form_tokens = form_tokens
        self._untrusted = UntrustedForms(settings.upload_untrusted_max_bytes)

    async def store(self, boundary: bytes, chunks: AsyncIterator[bytes], announced: int | None) -> str:
        """Receive a multipart form, store its file, normalised if it is an image and scanned if not.

        The fields may come in any order; a token is judged as soon as it is complete. What comes of the file before it
        is held in memory, within the bounds of `UntrustedForms`: a thread and a file begin with the right token.

        Args:
            boundary: Separates the form's fields.
            announced: The body's size in bytes, if the client announced it.

        Returns:
            The path as it was given.

        Raises:
            TokenMissing: There is no token.
            AccessDenied: The token is wrong.
            InvalidType: The type is neither `resource` nor `avatar`.
            PathOutsideStorage: The path leaves the folder of its type.
            BadRequest: The form is malformed, or a field is missing or wrong.
            FileTooLarge: The file is larger than `UPLOAD_MAX_BYTES`, or its part before the token than
                `UPLOAD_UNTRUSTED_MAX_BYTES`.
            ImageExpected: The file is no image.
            ImageTooLarge: The image has too many pixels.
            ImagePreparationFailed: The image could not be normalised.
            MalwareFound: The scanner found something in the file.
            ScannerUnavailable: The file has to be scanned, and cannot be now.
            UploadTimedOut: The form does not come in time.
            NoSpace: The disk is full, or would be down to its reserve.
            ServiceUnavailable: Too many forms, or too much of their files, came without tokens.
        """
        limit = self._settings.upload_max_bytes
        if limit and announced is not None and announced > limit + MAX_BYTES_BESIDES_FILE:
            raise FileTooLarge
        try:
            form = MultipartReader(boundary, "file")
            beginning = await self._beginning(form, chunks)
            # Cleanup removes a left-over folder of this name as the workspace of a job that is gone.
            workspace = self._workspaces.folder(f"upload-{secrets.token_hex(16)}")
            try:
                return await self._stored(form, _file(form, beginning, chunks), workspace)
            finally:
                await discard(workspace)
        except FormError:
            raise BadRequest("Malformed form") from None

    async def _beginning(self, form: MultipartReader, chunks: AsyncIterator[bytes]) -> bytearray:
        """Read a form up to its token, and return what has come of its file."""
        async with self._untrusted.admitted() as untrusted:
            while True:
                try:
                    async with asyncio.timeout(self._settings.transfer_idle_timeout_seconds or None):
                        pieces = form.feed(await anext(chunks))
                except TimeoutError:
                    raise UploadTimedOut from None
                except StopAsyncIteration:
                    raise FormError from None
                token = form.text("token")
                if form.complete or token is not None:
                    await self._form_tokens.check(FormToken.UPLOAD_FILE, token)
                    untrusted.held += b"".join(pieces)
                    return untrusted.held
                self._untrusted.hold(untrusted, pieces)

    async def _stored(self, form: MultipartReader, file: AsyncIterator[bytes], workspace: Path) -> str:
        received, image, digest = workspace / "file", workspace / "image.webp", FileDigest()
        limits = upload_limits(self._settings, self._settings.upload_max_bytes)
        # The form's size was announced, not the file's.
        await receive(file, received, limits, None, lambda count: None, digest=digest)
        fields = form.texts()
        name = await self._name(fields)
        if not form.has_file:
            raise BadRequest("File missing")
        if fields.get("file_kind") == "img":
            _, sha256 = await self._images.normalise(received, image)
            await self._files.put(image, name, Facts(sha256=sha256))
        else:
            await self._scanner.require_clean(received, _logger)
            sha256 = await run_until_stopped(partial(digest.finish, received))
            await self._files.put(received, name, Facts(sha256=sha256))
        return fields["path"]

    async def _name(self, fields: Mapping[str, str]) -> str:
        storage_type, kind, path = fields.get("type", ""), fields.get("file_kind") or "bin", fields.get("path", "")
        if storage_type not in UPLOADABLE:
            raise InvalidType
        if kind not in FILE_KINDS:
            raise BadRequest("Invalid file kind")
        if storage_type == StorageType.AVATAR and kind != "img":
            raise BadRequest("Avatar requires image file kind")
        if kind == "img" and not path.endswith(".webp"):
            raise BadRequest("Image storage path must end with .webp")
        return await self._files.resolve(storage_type, path)


async def _file(form: MultipartReader, beginning: bytearray, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for start in range(0, len(beginning), BLOCK_BYTES):
        yield bytes(beginning[start : start + BLOCK_BYTES])
    beginning.clear()
    async for chunk in chunks:
        for piece in form.feed(chunk):
            yield piece
    if not form.complete:
        raise FormError


class UntrustedForm:
    """One form whose token has not been judged yet.

    Attributes:
        held: What has come of its file. One array, since the bytes may come in very small pieces.
        is_dropped: Whether it had to make room for another form.
    """

    def __init__(self) -> None:
        self.held = bytearray()
        self.is_dropped = False
        self.time_limit = asyncio.timeout(_TOKEN_SECONDS)

    def drop(self) -> None:
        """Let go of what is held, and end the form."""
        self.held.clear()
        self.is_dropped = True
        if not self.time_limit.expired():
            self.time_limit.reschedule(0)


class UntrustedForms:
    """The forms of this worker whose tokens have not been judged yet.

    Their number and the bytes of their files together, which are held in memory, are bounded, and each has a minute for
    its token. A form that is too many takes the place of the one that has been silent longest, so forms that stand
    still keep no other out.

    Args:
        max_bytes: Limit on the files' bytes together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The one that has been silent longest comes first.
        self._forms: dict[UntrustedForm, None] = {}

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[UntrustedForm]:
        """Receive a form up to its token inside the block, which ends when the form has to make room or its time is up.

        Raises:
            ServiceUnavailable: Another form took its place.
            UploadTimedOut: Its token did not come in time.
        """
        form = UntrustedForm()
        try:
            async with form.time_limit:
                self._forms[form] = None
                self._make_room()
                yield form
            if form.is_dropped:
                # Its token came before its end was due.
                raise ServiceUnavailable
        except TimeoutError:
            raise ServiceUnavailable if form.is_dropped else UploadTimedOut from None
        finally:
            self._forms.pop(form, None)

    def hold(self, form: UntrustedForm, pieces: Iterable[bytes]) -> None:
        """Keep further bytes of a form's file.

        Raises:
            FileTooLarge: They are more than all files may have together.
            ServiceUnavailable: Another form took its place.
        """
        if form.is_dropped:
            raise ServiceUnavailable
        form.held += b"".join(pieces)
        if len(form.held) > self._max_bytes:
            raise FileTooLarge("Send the token before the file")
        self._forms[form] = self._forms.pop(form)
        self._make_room()

    def _make_room(self) -> None:
        while len(self._forms) > _MOST_UNTRUSTED or sum(len(form.held) for form in self._forms) > self._max_bytes:
            dropped = next(iter(self._forms))
            del self._forms[dropped]
            dropped.drop()
