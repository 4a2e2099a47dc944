"""Requests to an S3-compatible store in place of `obstore`.

It makes no copies with other metadata, knows nothing of uploads in parts, and lists nothing as soon as there is a key
with an empty segment.

Rules: AWS, "Amazon S3 API Reference".
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple
from xml.etree import ElementTree

import httpx

from open_workshop_storage.core.errors import FileMissing, ServiceUnavailable, StoreRefuses
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.utils.auth.s3_signatures import S3Key, encoded_path, signed_url
from open_workshop_storage.utils.http.media_types import media_type
from open_workshop_storage.utils.processes.task_groups import work_on_each

_logger = logging.getLogger(__name__)

_SIGNED_SECONDS = 60
_QUICK_SECONDS = 10.0
_LISTING_SECONDS = 60.0
# A store copies a large object while its client waits.
_COPY_SECONDS = 300.0
_COPIED_AT_ONCE = 1024**3
_COPIES_AT_ONCE = 4
_REMEMBERED_SECONDS = 1.0
# Names of what is kept with an object.
_UNPACKED_BYTES, _SHA256 = "unpacked-bytes", "sha256"
# What is missing where no object was named is the bucket.
_REFUSALS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}


class Replaced(Exception):
    """The object is another version than the one that was asked for."""


class Credentials(NamedTuple):
    """Where objects are, and what requests for them are signed with.

    Attributes:
        endpoint: The store's base URL, without a slash at its end.
        prefix: What all keys of ours begin with; empty, or with a slash at its end.
    """

    endpoint: str
    bucket: str
    key: S3Key
    prefix: str = ""

    def url(self, name: str = "") -> str:
        """Return the address of an object, or of the bucket."""
        path = f"/{self.bucket}/{self.prefix}{name}" if name else f"/{self.bucket}"
        return self.endpoint + encoded_path(path)


class StoredObject(NamedTuple):
    """An object as it was when it was looked up.

    Attributes:
        name: Its key, below the prefix.
        size: Bytes.
        modified: Time of its last change; stores tell whole seconds.
        etag: Names this version of it, with its quotes.
        facts: What is kept with it; None if nothing is, or where that was not asked for.
    """

    name: str
    size: int
    modified: datetime
    etag: str
    facts: Facts | None = None


class BucketRequests:
    """Signed requests to one bucket.

    Raises:
        ServiceUnavailable: By each method but `is_available`: the store is away, or refuses.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._http = httpx.AsyncClient(trust_env=False, timeout=_QUICK_SECONDS)
        self._is_there, self._known_until = False, 0.0

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def is_available(self) -> bool:
        """Return whether the store answers and has the bucket, as it was found within the last second."""
        if time.monotonic() > self._known_until:
            try:
                await self._request("HEAD", "")
                self._is_there = True
            except ServiceUnavailable:
                self._is_there = False
            self._known_until = time.monotonic() + _REMEMBERED_SECONDS
        return self._is_there

    async def list(self, folder: str) -> AsyncIterator[StoredObject]:
        """Yield all objects of a folder and those below it, without what is kept with them."""
        prefix = self._credentials.prefix
        query = {"list-type": "2", "prefix": f"{prefix}{folder}/"}
        async for page in self._pages(query, {"continuation-token": "NextContinuationToken"}):
            for found in page.iterfind("{*}Contents"):
                key, size, modified, etag = (
                    found.findtext(f"{{*}}{name}", "") for name in ("Key", "Size", "LastModified", "ETag")
                )
                yield StoredObject(key.removeprefix(prefix), int(size), datetime.fromisoformat(modified), etag)

    async def copy(self, source: StoredObject, target: str, facts: Facts | None) -> None:
        """Have the store copy one version of an object, in one step for readers; in parts if it is large.

        Raises:
            Replaced: It is another version by now.
            FileMissing: It is gone.
        """
        headers = {f"x-amz-meta-{name}": value for name, value in metadata_of(facts).items()}
        headers["content-type"] = media_type(target)
        path = self._credentials.url(source.name).removeprefix(self._credentials.endpoint)
        reading = {"x-amz-copy-source": path, "x-amz-copy-source-if-match": source.etag}
        if source.size <= _COPIED_AT_ONCE:
            replacing = {"x-amz-metadata-directive": "REPLACE", **reading, **headers}
            _text_of(await self._request("PUT", target, {}, replacing, _COPY_SECONDS), "ETag")
        else:
            await self._copy_in_parts(source.size, target, reading, headers)

    async def _copy_in_parts(
        self, size: int, target: str, reading: Mapping[str, str], headers: Mapping[str, str]
    ) -> None:
        upload = _text_of(await self._request("POST", target, {"uploads": ""}, headers), "UploadId")

        async def copy_part(number: int) -> str:
            start = (number - 1) * _COPIED_AT_ONCE
            stop = min(start + _COPIED_AT_ONCE, size)
            part = {**reading, "x-amz-copy-source-range": f"bytes={start}-{stop - 1}"}
            query = {"partNumber": str(number), "uploadId": upload}
            return _text_of(await self._request("PUT", target, query, part, _COPY_SECONDS), "ETag")

        try:
            etags = await work_on_each(copy_part, range(1, -(-size // _COPIED_AT_ONCE) + 1), _COPIES_AT_ONCE)
            body = _completion(etags)
            answer = await self._request("POST", target, {"uploadId": upload}, {}, _COPY_SECONDS, body)
            _text_of(answer, "ETag")
        except BaseException:
            # What this does not reach, the cleanup ends.
            with suppress(ServiceUnavailable):
                await self._abort(target, upload)
            raise

    async def abort_uploads(self, folder: str, before: datetime) -> None:
        """End uploads in parts to a folder that were begun before a time and not completed."""
        prefix = self._credentials.prefix
        markers = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
        async for page in self._pages({"uploads": "", "prefix": f"{prefix}{folder}/"}, markers):
            for upload in page.iterfind("{*}Upload"):
                begun = datetime.fromisoformat(upload.findtext("{*}Initiated", ""))
                if begun < before:
                    name = upload.findtext("{*}Key", "").removeprefix(prefix)
                    await self._abort(name, upload.findtext("{*}UploadId", ""))

    async def _abort(self, name: str, upload: str) -> None:
        with suppress(FileMissing):
            await self._request("DELETE", name, {"uploadId": upload})

    async def _pages(self, query: Mapping[str, str], markers: Mapping[str, str]) -> AsyncIterator[ElementTree.Element]:
        """Yield the pages of a listing.

        Args:
            markers: The names of the parameters that tell where the next page begins, each with that of the element
                which has the value.
        """
        start: dict[str, str] = {}
        while True:
            page = _parsed(await self._request("GET", "", {**query, **start}, seconds=_LISTING_SECONDS))
            yield page
            following = {name: page.findtext(f"{{*}}{element}", "") for name, element in markers.items()}
            if page.findtext("{*}IsTruncated") != "true" or following == start:
                return
            start = following

    async def _request(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = _QUICK_SECONDS,
        body: bytes = b"",
    ) -> bytes:
        where = self._credentials
        url = signed_url(where.key, method, where.url(name), _SIGNED_SECONDS, query, headers)
        try:
            answer = await self._http.request(method, url, headers=headers, content=body, timeout=seconds)
        except httpx.HTTPError as error:
            _logger.warning("object store: %s fails with %s", method, type(error).__name__)
            raise ServiceUnavailable from None
        if answer.is_success:
            return answer.content
        if answer.status_code == HTTPStatus.NOT_FOUND and name:
            raise FileMissing
        if answer.status_code == HTTPStatus.PRECONDITION_FAILED:
            raise Replaced
        _logger.warning("object store: %s is answered %d", method, answer.status_code)
        raise StoreRefuses if answer.status_code in _REFUSALS else ServiceUnavailable


def metadata_of(facts: Facts | None) -> Mapping[str, str]:
    """Return what is kept with an object for these facts."""
    known = {_UNPACKED_BYTES: facts.unpacked_bytes, _SHA256: facts.sha256} if facts else {}
    return {name: str(value) for name, value in known.items() if value is not None}


def facts_in(metadata: Mapping[str, str]) -> Facts | None:
    """Return the facts that are kept with an object; None if there are none."""
    unpacked_bytes = metadata.get(_UNPACKED_BYTES, "")
    facts = Facts(int(unpacked_bytes) if unpacked_bytes.isdecimal() else None, metadata.get(_SHA256))
    return None if facts == Facts() else facts


def _completion(etags: Collection[str]) -> bytes:
    root = ElementTree.Element("CompleteMultipartUpload")
    for number, etag in enumerate(etags, 1):
        part = ElementTree.SubElement(root, "Part")
        ElementTree.SubElement(part, "PartNumber").text = str(number)
        ElementTree.SubElement(part, "ETag").text = etag
    return ElementTree.tostring(root)


def _parsed(answer: bytes) -> ElementTree.Element:
    """Return an answer's content; what died while it worked behind a proxy may have sent a part of it, or nothing."""
    try:
        return ElementTree.fromstring(answer)
    except ElementTree.ParseError:
        _logger.warning("object store: an answer of %d bytes is no XML", len(answer))
        raise ServiceUnavailable from None


def _text_of(answer: bytes, name: str) -> str:
    """Return what an answer says; it may say no although its status was sent before the work was done."""
    text = _parsed(answer).findtext(f"{{*}}{name}")
    if text is None:
        _logger.warning("object store: an answer names no %s", name)
        raise ServiceUnavailable
    return text
