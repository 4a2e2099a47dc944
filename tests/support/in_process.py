"""Routes with the real services behind them, in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import APIRouter, FastAPI
from redis.asyncio import Redis
from starlette.middleware import Middleware

from open_workshop_storage.api.dependencies import get_runtime
from open_workshop_storage.api.error_answers import FRAMEWORK_HANDLERS, FailureMiddleware
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.images.blurhashes import Blurhashes
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.intake.scan import Scanner
from open_workshop_storage.services.manager.file_uploads import FileUploads
from open_workshop_storage.services.manager.form_tokens import FormTokens
from open_workshop_storage.services.operations.readiness import Readiness
from open_workshop_storage.services.storage.local import LocalFiles
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.stores.memory import MemoryJobStore
from tests.support.configs import Secrets


def make_settings(main_dir: Path, secrets: Secrets, **changes: object) -> Settings:
    """Return settings for a storage root; names in lower case."""
    for name in ("archive", "avatar", "resource", "temp"):
        (main_dir / name).mkdir(parents=True, exist_ok=True)
    usual: dict[str, object] = {
        "main_dir": main_dir,
        "manager_url": "http://127.0.0.1:9",
        "access_service_url": "http://127.0.0.1:9",
        "storage_reserve_bytes": 0,
        **{name.lower(): value for name, value in secrets.settings().items()},
    }
    return Settings(**{**usual, **changes})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Parts:
    """What of a runtime the routes of single files and images use; to build a whole one takes its time."""

    settings: Settings
    files: LocalFiles
    file_uploads: FileUploads
    blurhashes: Blurhashes
    form_tokens: FormTokens
    readiness: Readiness


@asynccontextmanager
async def serving(
    router: APIRouter, settings: Settings, redis: Redis | None = None
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """Serve some routes until the block ends; give the app, and a client for it."""
    files, images = LocalFiles(settings.main_dir), Images()
    workspaces = Workspaces(settings.main_dir, settings.storage_reserve_bytes)
    blurhashes = Blurhashes(files, images, settings, redis)
    readiness = Readiness(files, workspaces, MemoryJobStore(), loads=True)
    form_tokens = FormTokens(settings)
    uploads = FileUploads(settings, files, workspaces, images, Scanner(settings), form_tokens)
    parts = Parts(settings, files, uploads, blurhashes, form_tokens, readiness)
    app = FastAPI(middleware=[Middleware(FailureMiddleware)], exception_handlers=FRAMEWORK_HANDLERS)
    app.include_router(router)
    app.dependency_overrides[get_runtime] = lambda: parts
    async with (
        aclosing(images),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://storage") as client,
    ):
        yield app, client
