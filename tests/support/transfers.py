"""The parts of a loader that work on transfers, in the test's own process and over a memory store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from open_workshop_storage.core.claims import parse_claims
from open_workshop_storage.core.job import Job, Slot, Stage
from open_workshop_storage.core.settings import Settings
from open_workshop_storage.core.store import JobStore
from open_workshop_storage.services.archives.archives import Archives
from open_workshop_storage.services.images.images import Images
from open_workshop_storage.services.intake.fetch import Fetcher
from open_workshop_storage.services.intake.scan import Scanner
from open_workshop_storage.services.manager.callback_delivery import Callbacks
from open_workshop_storage.services.storage.files import Files
from open_workshop_storage.services.storage.opening import open_storage
from open_workshop_storage.services.storage.staging import Staging
from open_workshop_storage.services.storage.workspaces import Workspaces
from open_workshop_storage.services.transfers.attempts import Attempts
from open_workshop_storage.services.transfers.cleanup import Cleanup
from open_workshop_storage.services.transfers.job_run import JobRun
from open_workshop_storage.services.transfers.lifetime import Lifetime, never_leaves
from open_workshop_storage.services.transfers.moves import Moves
from open_workshop_storage.services.transfers.repacks import Repacks
from open_workshop_storage.services.transfers.resumable import ResumableUploads
from open_workshop_storage.services.transfers.runs import Runs
from open_workshop_storage.services.transfers.stages import Stages
from open_workshop_storage.services.transfers.transfers import Transfers
from open_workshop_storage.services.transfers.worker import Worker
from open_workshop_storage.stores.memory import MemoryJobStore
from open_workshop_storage.utils.net.http_connections import Connections
from tests.support.configs import Secrets
from tests.support.events import watched
from tests.support.in_process import make_settings
from tests.support.jobs import new_job
from tests.support.origins import LOOPBACK, Answer, Origin, reply, running_origin

PATIENCE_SECONDS = 60
_SECRETS = Secrets()


@dataclass(frozen=True)
class Bench:
    """All that works on transfers, and a Manager that takes their reports with 200 unless told otherwise."""

    settings: Settings
    manager: Origin
    store: JobStore
    files: Files
    staging: Staging
    workspaces: Workspaces
    lifetime: Lifetime
    runs: Runs
    attempts: Attempts
    stages: Stages
    moves: Moves
    repacks: Repacks
    transfers: Transfers
    resumable: ResumableUploads
    worker: Worker
    cleanup: Cleanup

    async def upload(self, content: bytes | AsyncIterator[bytes], **claims: object) -> Job:
        """Send a file as a browser would, and return its job."""
        chunks = pieces(content) if isinstance(content, bytes) else content
        announced = len(content) if isinstance(content, bytes) else None
        return await self.transfers.upload(parse_claims(claims), chunks, "mod.zip", announced)

    async def run_in(self, job: Job, content: bytes, *, is_attended: bool = True) -> JobRun:
        """Store a job, and begin a run at it that has received a file."""
        owner = job.owner or "me"
        job = await self.store.save(job.model_copy(update={"owner": owner, "source_file": f"{owner}/source"}), None)
        run = self.runs.begin_run(job, never_leaves if is_attended else None)
        run.folder.mkdir(parents=True)
        run.source.write_bytes(content)
        return run

    async def held(self, job: Job) -> JobRun:
        """Store a job, and begin a run at it that has a file in its workspace."""
        run = self.runs.begin_run(await self.store.save(job, None))
        run.folder.mkdir(parents=True)
        (run.folder / "source").write_bytes(b"received")
        return run

    async def packed(self, content: bytes, **values: object) -> Job:
        """Store a packed job, with its file in the workspace."""
        job = new_job(stage=Stage.PACKED, packed_file="run/source", source_file="run/source", **values)
        folder = self.workspaces.folder(job.job_id) / "run"
        folder.mkdir(parents=True)
        (folder / "source").write_bytes(content)
        sizes = {"packed_bytes": len(content), "unpacked_bytes": 9}
        return await self.store.save(job.model_copy(update=sizes), None)

    async def job(self, job_id: str) -> Job:
        """Return the record of a job that is there."""
        job = await self.store.get(job_id)
        assert job is not None
        return job

    async def taken(self, owner: str) -> Job:
        """Take a job as a worker does, once there is one that has its slot."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (job := await self.store.take(owner)) is None:
                await asyncio.sleep(0.01)
        return job

    async def counts(self, slot: Slot) -> tuple[int, int]:
        """Return how many hold a slot, and how many wait for one."""
        queue = (await self.store.overview(40)).slots[slot]
        return queue.held, queue.waiting

    async def until(self, slot: Slot, held: int, waiting: int) -> None:
        """Return once so many hold a slot, and so many wait for one."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.counts(slot) != (held, waiting):
                await asyncio.sleep(0.01)

    async def stages_of(self, job_id: str) -> Sequence[str]:
        """Return the stages that a socket hears of until the job ends."""
        heard: list[str] = []
        async with watched(self.store, job_id) as events, asyncio.timeout(PATIENCE_SECONDS):
            async for event in events:
                stage = json.loads(event.text)["stage"]
                if stage not in heard[-1:]:
                    heard.append(stage)
                if event.kind.final:
                    break
        return heard


async def pieces(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Send a body in pieces."""
    for start in range(0, len(content), size):
        yield content[start : start + size]
        await asyncio.sleep(0)


@asynccontextmanager
async def bench(
    folder: Path, answer: Answer = reply(200), store: JobStore | None = None, **changes: object
) -> AsyncIterator[Bench]:
    """Build the parts, in a folder of their own, until the block ends.

    Args:
        answer: The Manager's to each report.
        store: In place of a memory store.
        changes: Settings other than the usual ones.
    """
    async with (
        running_origin(answer) as manager,
        aclosing(Connections(2, most_waiting=10)) as connections,
        aclosing(Images()) as images,
    ):
        usual: dict[str, object] = {"manager_url": manager.url, "transfer_allowed_networks": LOOPBACK}
        settings = make_settings(folder, _SECRETS, **(usual | changes))
        store = store or MemoryJobStore(settings.slot_limits)
        workspaces = Workspaces(settings.main_dir, settings.storage_reserve_bytes)
        callbacks = Callbacks(settings, store.outbox, connections)
        async with (
            Lifetime(settings) as lifetime,
            open_storage(settings, workspaces) as (files, staging),
            aclosing(Archives(settings)) as archives,
        ):
            runs = Runs(store, workspaces, staging, lifetime)
            attempts = Attempts(store, callbacks, runs, lifetime)
            stages = Stages(settings, archives, images, Scanner(settings), staging, runs, lifetime)
            moves = Moves(settings, store, files, staging, runs, lifetime)
            repacks = Repacks(store, staging, workspaces, stages)
            resumable = ResumableUploads(settings, store, workspaces, runs, attempts, stages, lifetime)
            transfers = Transfers(settings, store, runs, attempts, stages, Fetcher(settings), moves, resumable)
            cleanup = Cleanup(settings, store, files, staging, workspaces, attempts)
            worker = Worker(store, transfers, runs, attempts, callbacks, cleanup, lifetime)
            yield Bench(
                settings,
                manager,
                store,
                files,
                staging,
                workspaces,
                lifetime,
                runs,
                attempts,
                stages,
                moves,
                repacks,
                transfers,
                resumable,
                worker,
                cleanup,
            )
