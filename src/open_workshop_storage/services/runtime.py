"""The parts of a running service, built in the app's lifespan and closed there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

from open_workshop_storage.core.claims import TransferClaims, parse_claims
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.services.archives.archives import Archives
from open_workshop_storage.services.downloads.access import AccessService
from open_workshop_storage.services.downloads.contents import Contents
from open_workshop_storage.services.downloads.downloads import Downloads
from open_workshop_storage.services.downloads.remembering import RememberedAnswers
from open_workshop_storage.services.downloads.stored_archives import UnpackedSizes
from open_workshop_storage.services.images.blurhashes import Blurhashes
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.intake.fetch import Fetcher
from open_workshop_storage.services.intake.scan import Scanner
from open_workshop_storage.services.manager.callback_delivery import Callbacks
from open_workshop_storage.services.manager.file_uploads import FileUploads
from open_workshop_storage.services.manager.form_tokens import FormTokens
from open_workshop_storage.services.operations.readiness import Readiness
from open_workshop_storage.services.operations.reports import Reports
from open_workshop_storage.services.operations.worker_process import (
    drop_stalled_connections,
    follow_server,
    stop_in_order,
)
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.opening import open_storage
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.attempts import Attempts
from open_workshop_storage.services.transfers.cleanup import Cleanup
from open_workshop_storage.services.transfers.lifetime import Lifetime, keep_doing
from open_workshop_storage.services.transfers.moves import Moves
from open_workshop_storage.services.transfers.repacks import Repacks
from open_workshop_storage.services.transfers.resumable import ResumableUploads
from open_workshop_storage.services.transfers.runs import Runs
from open_workshop_storage.services.transfers.stages import Stages
from open_workshop_storage.services.transfers.transfers import Transfers
from open_workshop_storage.services.transfers.worker import Worker
from open_workshop_storage.stores.memory import MemoryJobStore
from open_workshop_storage.stores.redis import redis_job_store
from open_workshop_storage.stores.redis_client import redis_client
from open_workshop_storage.utils.auth.json_web_tokens import read_transfer_token
from open_workshop_storage.utils.net.http_connections import Connections
from open_workshop_storage.utils.processes.confinement import unconfined

_logger = logging.getLogger(__name__)

_NICENESS_OF_STRANGERS = 10
# More questions at once would not be answered sooner: asking and reading takes a worker's time, too.
_ACCESS_CONNECTIONS = 32
_MANAGER_CONNECTIONS = 32
_MOST_WAITING_CHECKS = 256
# One more is delivered a little later; a token whose uploads fail makes twenty a second.
_MOST_WAITING_CALLBACKS = 64
# Each request of an upload brings the same token.
_MOST_REMEMBERED_TOKENS = 256


@dataclass(frozen=True)
class Runtime:
    """What routes use.

    Attributes:
        claims_of: Returns the claims of a transfer token, which may have expired, and remembers those of the last ones.
    """

    settings: Settings
    files: Files
    workspaces: Workspaces
    downloads: Downloads
    contents: Contents
    remembered_answers: RememberedAnswers
    file_uploads: FileUploads
    blurhashes: Blurhashes
    form_tokens: FormTokens
    claims_of: Callable[[str], TransferClaims]
    store: JobStore
    lifetime: Lifetime
    transfers: Transfers
    resumable: ResumableUploads
    moves: Moves
    repacks: Repacks
    readiness: Readiness


@asynccontextmanager
async def open_runtime(settings: Settings, *, loads: bool) -> AsyncIterator[Runtime]:
    """Build the runtime, run the loader's background work if this process is one, and close all at the end.

    Nothing here needs Redis, the storage root or `7z` to be there already.
    """
    for problem in await asyncio.to_thread(unconfined):
        _logger.warning("child processes keep access to %s", problem)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        redis = await enter(aclosing(redis_client(settings.redis_url))) if settings.redis_url else None
        manager_connections = await enter(aclosing(Connections(_MANAGER_CONNECTIONS, _MOST_WAITING_CALLBACKS)))
        access_connections = await enter(aclosing(Connections(_ACCESS_CONNECTIONS, _MOST_WAITING_CHECKS)))
        # A queue for each, so that strangers' images do not delay the Manager's.
        reserve_bytes = settings.storage_reserve_bytes
        uploaded = await enter(aclosing(Images(reserve_bytes)))
        transferred = await enter(aclosing(Images(reserve_bytes, _NICENESS_OF_STRANGERS)))
        stored = await enter(aclosing(Images(reserve_bytes, _NICENESS_OF_STRANGERS)))
        lifetime = await enter(Lifetime(settings))
        workspaces = Workspaces(settings.main_dir, settings.storage_reserve_bytes)
        files, staging = await enter(open_storage(settings, workspaces))
        unpacked_sizes = await enter(aclosing(UnpackedSizes(files)))
        access = AccessService(
            access_connections,
            settings.access_service_url,
            settings.access_service_timeout_seconds,
            settings.access_cache_ttl_seconds,
        )
        downloads = Downloads(files, access, unpacked_sizes, settings)
        contents = await enter(aclosing(Contents(files, downloads)))
        form_tokens = FormTokens(settings)
        store: JobStore = redis_job_store(settings, redis) if redis else MemoryJobStore(settings.slot_limits)
        archives = await enter(aclosing(Archives(settings)))
        callbacks = Callbacks(settings, store.outbox, manager_connections)
        runs = Runs(store, workspaces, staging, lifetime)
        attempts = Attempts(store, callbacks, runs, lifetime)
        scanner = Scanner(settings)
        stages = Stages(settings, archives, transferred, scanner, staging, runs, lifetime)
        moves = Moves(settings, store, files, staging, runs, lifetime)
        repacks = Repacks(store, staging, workspaces, stages)
        resumable = ResumableUploads(settings, store, workspaces, runs, attempts, stages, lifetime)
        transfers = Transfers(settings, store, runs, attempts, stages, Fetcher(settings), moves, resumable)
        if loads:
            cleanup = Cleanup(settings, store, files, staging, workspaces, attempts)
            lifetime.start(Worker(store, transfers, runs, attempts, callbacks, cleanup, lifetime).run())
            reports = Reports(store, workspaces, lifetime, runs)
            lifetime.start(keep_doing(reports.run))
            if settings.measures:
                lifetime.start(keep_doing(reports.run_levels))
            lifetime.start(stop_in_order(runs, settings.shutdown_grace_seconds))
        lifetime.start(drop_stalled_connections(settings.client_stall_timeout_seconds))
        lifetime.start(follow_server())
        yield Runtime(
            settings=settings,
            files=files,
            workspaces=workspaces,
            downloads=downloads,
            contents=contents,
            remembered_answers=RememberedAnswers(files, access.permits, downloads.blocks),
            file_uploads=FileUploads(settings, files, workspaces, uploaded, scanner, form_tokens),
            blurhashes=Blurhashes(files, stored, settings, redis),
            form_tokens=form_tokens,
            claims_of=lru_cache(_MOST_REMEMBERED_TOKENS)(partial(_read_claims, settings.transfer_jwt_secret)),
            store=store,
            lifetime=lifetime,
            transfers=transfers,
            resumable=resumable,
            moves=moves,
            repacks=repacks,
            readiness=Readiness(files, workspaces, store, loads=loads),
        )


def _read_claims(secret: str, token: str) -> TransferClaims:
    read = read_transfer_token(token, secret)
    return parse_claims(read.claims, read.expires_at)
