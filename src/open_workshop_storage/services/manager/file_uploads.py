"""Receives the files that the Manager uploads itself (docs/API.md, "POST `/upload`")."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from open_workshop_storage.core.errors import BadRequest, FileTooLarge, InvalidType, ServiceUnavailable
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.storage_types import StorageType
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.intake.receive import receive, upload_limits
from open_workshop_storage.services.manager.form_tokens import FormToken, FormTokens
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.workspaces import Workspaces, discard
from open_workshop_storage.utils.http.forms import FormError, MultipartReader

UPLOADABLE = (StorageType.RESOURCE, StorageType.AVATAR)
FILE_KINDS = ("bin", "img")

_FORM_OVERHEAD_BYTES = 64 * 1024
"""Room for what a form has besides its file: boundaries, headers, the other fields."""


class FileUploads:
    """Receives forms with a file, and puts the file in its place."""

    def __init__(
        self, settings: Settings, files: Files, workspaces: Workspaces, images: Images, form_tokens: FormTokens
    ) -> None:
        self._settings = settings
        self._files = files
        self._workspaces = workspaces
        self._images = images
        self._form_tokens = form_tokens
        # Bytes of the file that came before the form's token.
        self._untrusted: dict[MultipartReader, int] = {}

    async def store(self, boundary: bytes, chunks: AsyncIterator[bytes], announced: int | None) -> str:
        """Receive a multipart form, store its file, normalised if it is an image, and return the path as given.

        The fields may come in any order; a token is judged as soon as it is complete. Files whose tokens have not
        come yet may take `UPLOAD_UNTRUSTED_MAX_BYTES` together.

        Args:
            boundary: Separates the form's fields.
            announced: The body's size in bytes, if the client announced it.

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
            UploadTimedOut: The form does not come in time.
            NoSpace: The disk is full, or would be down to its reserve.
            ServiceUnavailable: Files whose tokens have not come yet take too many bytes.
        """
        limit = self._settings.upload_max_bytes
        if limit and announced is not None and announced > limit + _FORM_OVERHEAD_BYTES:
            raise FileTooLarge
        # Cleanup removes a left-over folder of this name as the workspace of a job that is gone.
        workspace = self._workspaces.folder(f"upload-{secrets.token_hex(16)}")
        received, image = workspace / "file", workspace / "image.webp"
        try:
            form = await self._receive(boundary, chunks, received)
            name = await self._name(form.fields)
            if not form.has_file:
                raise BadRequest("File missing")
            if form.fields.get("file_kind") == "img":
                await self._images.normalise(received, image)
                await self._files.put(image, name)
            else:
                await self._files.put(received, name)
        finally:
            await discard(workspace)
        return form.fields["path"]

    async def _receive(self, boundary: bytes, chunks: AsyncIterator[bytes], target: Path) -> MultipartReader:
        limits = upload_limits(self._settings, self._settings.upload_max_bytes)
        try:
            form = MultipartReader(boundary, "file")
        except FormError:
            raise BadRequest("Malformed form") from None
        self._untrusted[form] = 0
        try:
            # No disk space is reserved before the token is judged.
            await receive(self._file(form, chunks), target, limits, None, lambda received: None)
            if not form.complete:
                raise FormError
        except FormError:
            raise BadRequest("Malformed form") from None
        finally:
            self._untrusted.pop(form, None)
        return form

    async def _file(self, form: MultipartReader, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            pieces = form.feed(chunk)
            if form in self._untrusted:
                if form.complete or "token" in form.fields:
                    await self._form_tokens.check(FormToken.UPLOAD_FILE, form.fields.get("token"))
                    del self._untrusted[form]
                else:
                    self._untrusted[form] += sum(map(len, pieces))
                    self._bound_untrusted(form)
            for piece in pieces:
                yield piece

    def _bound_untrusted(self, form: MultipartReader) -> None:
        limit = self._settings.upload_untrusted_max_bytes
        if limit and self._untrusted[form] > limit:
            raise FileTooLarge
        if limit and sum(self._untrusted.values()) > limit:
            raise ServiceUnavailable

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
        return await self._files.resolve(storage_type, path, UPLOADABLE)
