"""A bucket of an S3-compatible store: what is done to objects there, with errors of ours.

Objects are read and written through `obstore`; `services/storage/bucket_requests.py` has what that cannot do.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store

from open_workshop_storage.core.errors import FileMissing, ServiceUnavailable, StoreRefuses
from open_workshop_storage.services.storage.bucket_requests import (
    BucketRequests,
    Credentials,
    Replaced,
    StoredObject,
    facts_in,
    metadata_of,
)
from open_workshop_storage.services.storage.files import Facts
from open_workshop_storage.utils.http.media_types import media_type

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

_logger = logging.getLogger(__name__)

# Until an answer begins. A store that is silent is away long before a connection to it is given up.
_ANSWER_SECONDS = 10.0
_PART_BYTES = 8 * 1024 * 1024
_MOST_PARTS = 9000
_PARTS_AT_ONCE = 4
_FETCHED_AT_ONCE = 1024 * 1024
_HEAD_BYTES = 64 * 1024
_TAIL_BYTES = 16 * 1024 * 1024


class Bucket(BucketRequests):
    """The objects of one bucket below a prefix, known by the rest of their keys.

    Raises:
        ServiceUnavailable: By each method but `is_available`: the store is away, has no such bucket, or refuses.
    """

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self.prefix = credentials.prefix
        self._store = S3Store(
            credentials.bucket,
            prefix=credentials.prefix or None,
            # This name of the setting is the one that no variable of the environment overrides.
            aws_endpoint_url_s3=credentials.endpoint,
            region=credentials.key.region,
            access_key_id=credentials.key.access_key_id,
            secret_access_key=credentials.key.secret_access_key,
            # One answer may take as long as its client does; only silence ends it.
            client_options={"allow_http": True, "connect_timeout": "5s", "read_timeout": "60s", "timeout": "7days"},
            retry_config={
                "max_retries": 2,
                "retry_timeout": timedelta(seconds=10),
                "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1)},
            },
        )

    async def find(self, name: str) -> StoredObject:
        """Look an object up.

        Raises:
            FileMissing: There is none.
        """
        return stored_object(name, await self._get(name, {"head": True}))

    async def get(self, name: str, etag: str | None = None, part: range | None = None) -> GetResult:
        """Begin to read an object.

        Args:
            etag: Names the version; None for whichever there is.
            part: Its positions, at least one; None for all.

        Raises:
            Replaced: It is another version by now.
            FileMissing: It is gone.
        """
        options: GetOptions = {} if etag is None else {"if_match": etag}
        if part is not None:
            options["range"] = part.start, part.stop
        return await self._get(name, options)

    @asynccontextmanager
    async def fetched(self, name: str, folder: Path | None = None, *, ends_only: bool = False) -> AsyncIterator[Path]:
        """Give a temporary file of this host with an object's content until the block ends.

        Args:
            folder: Where it is made; None for the system's folder for temporary files.
            ends_only: Whether what lies between the first 64 KiB and the last 16 MiB may be left out, as a hole.

        Raises:
            FileMissing: There is no such object.
        """
        with await asyncio.to_thread(_temporary_file, folder) as file:
            while not await self._try_to_fetch(name, file, ends_only):
                await asyncio.to_thread(file.truncate, 0)
            yield Path(file.name)

    async def _try_to_fetch(self, name: str, file: IO[bytes], ends_only: bool) -> bool:
        """Write an object to a file; return whether that worked, as another version may take its place meanwhile."""
        found = await self.find(name)
        parts = [range(found.size)]
        if ends_only and found.size > _HEAD_BYTES + _TAIL_BYTES:
            parts = [range(_HEAD_BYTES), range(found.size - _TAIL_BYTES, found.size)]
        for part in filter(None, parts):
            await asyncio.to_thread(file.seek, part.start)
            try:
                result = await self.get(name, found.etag, part)
            except Replaced:
                return False
            with _store_errors_as_ours():
                async for piece in result.stream(min_chunk_size=_FETCHED_AT_ONCE):
                    await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(file.flush)
        return True

    async def _get(self, name: str, options: GetOptions) -> GetResult:
        try:
            with _store_errors_as_ours():
                async with asyncio.timeout(_ANSWER_SECONDS):
                    return await obstore.get_async(self._store, name, options=options)
        except TimeoutError:
            _logger.warning("object store: no answer for %d seconds", _ANSWER_SECONDS)
            raise ServiceUnavailable from None
        except FileMissing:
            # Where the bucket itself is missing, the store says the same.
            if not await self.is_available():
                raise ServiceUnavailable from None
            raise

    async def put(self, source: Path, name: str, facts: Facts | None) -> int:
        """Write a file of this host to an object, in one step for readers; return its size in bytes.

        Raises:
            FileMissing: There is no such file.
            StoreRefuses: The store does not take it.
        """
        with _store_errors_as_ours():
            size = (await asyncio.to_thread(source.stat)).st_size
            try:
                await obstore.put_async(
                    self._store,
                    name,
                    source,
                    attributes={"Content-Type": media_type(name), **metadata_of(facts)},
                    chunk_size=max(_PART_BYTES, size // _MOST_PARTS),
                    max_concurrency=_PARTS_AT_ONCE,
                )
            except FileNotFoundError:
                # It is the bucket that is missing.
                raise StoreRefuses from None
            return size

    async def delete(self, *names: str) -> None:
        """Remove objects; those that are not there are passed over."""
        with _store_errors_as_ours():
            await obstore.delete_async(self._store, names)


@contextmanager
def _store_errors_as_ours() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FileMissing from None
    except PreconditionError:
        raise Replaced from None
    except BaseError as error:
        # The first line tells what was done and why it failed; others repeat it in more detail.
        _logger.warning("object store: %s", str(error).partition("\n")[0])
        is_refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError))
        raise (StoreRefuses if is_refused else ServiceUnavailable) from None


def _temporary_file(folder: Path | None) -> IO[bytes]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(prefix="open-workshop-", dir=folder)


def stored_object(name: str, answer: GetResult) -> StoredObject:
    """Return the object of that name as an answer of the store tells of it."""
    meta = answer.meta
    return StoredObject(name, meta["size"], meta["last_modified"], meta["e_tag"] or "", facts_in(answer.attributes))
