"""Opens the store that the settings name."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.storage.bucket import Bucket
from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.objects import ObjectFiles
from open_workshop_storage.services.storage.staging import ObjectStaging, Staging, WorkspaceStaging
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.utils.auth.s3_signatures import S3Key


@asynccontextmanager
async def open_storage(settings: Settings, workspaces: Workspaces) -> AsyncIterator[tuple[Files, Staging]]:
    """Give what keeps permanent files, and what hands packed ones on to it, until the block ends."""
    if not settings.s3_bucket:
        files = LocalFiles(settings.main_dir, settings.storage_reserve_bytes)
        yield files, WorkspaceStaging(files, workspaces)
        return
    async with aclosing(Bucket(credentials_of(settings))) as bucket:
        home = f"{socket.gethostname()}:{settings.main_dir}"
        yield ObjectFiles(bucket), ObjectStaging(bucket, workspaces, home)


@asynccontextmanager
async def open_files(settings: Settings) -> AsyncIterator[Files]:
    """Give what keeps permanent files, until the block ends."""
    async with open_storage(settings, Workspaces(settings.main_dir)) as (files, _):
        yield files


def credentials_of(settings: Settings) -> Credentials:
    """Return where our objects are, and the key to them."""
    key = S3Key(settings.s3_access_key_id, settings.s3_secret_access_key, settings.s3_region)
    endpoint = settings.s3_endpoint_url or f"https://s3.{settings.s3_region}.amazonaws.com"
    return Credentials(endpoint, settings.s3_bucket, key, f"{settings.s3_prefix}/" if settings.s3_prefix else "")
