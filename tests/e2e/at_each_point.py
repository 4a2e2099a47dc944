"""One transfer at each point where its worker may die."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
import zipfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from open_workshop_storage.client import Moved
from tests.e2e.under_way import (
    LARGE,
    PACKED_LARGE,
    Fetch,
    Records,
    Transfers,
    Upload,
    assert_arrived,
    assert_interrupted,
)
from tests.e2e.under_way import reported as reports_of
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, tar_of, zip_of
from tests.support.client import PATIENCE_SECONDS, InterruptedBody, eventually
from tests.support.manager import Answer
from tests.support.processes import children, send_signal
from tests.support.services import Services
from tests.support.seven_zip_gate import SevenZipGate

MOVED = random.Random(6).randbytes(60_000_000)
"""So much that copying it takes a moment."""
_TRIES = 2
_HALF = len(PACKED_LARGE) // 2


class AtEachPoint:
    """Begun in order, and then kept where they are until all workers of the loader are stopped (SIGSTOP).

    Attributes:
        continued: Half fetched, from an origin that can go on from there.
        repeated: Half fetched, from an origin that cannot.
        tested: Fetched, a BZip2 ZIP, which `7z` tests.
        extracted: Fetched, a 7z that `7z` extracts.
        packed: Fetched, a tar whose entries `7z` packs.
        uploaded: A body of which only the beginning has come.
        told: An image whose callback the Manager is about to answer.
        normalised: An image that is being made over.
        moved: Being copied to its permanent place on another file system.
        workers: The processes that were stopped.
        commands: Their `7z` commands.
    """

    def __init__(self, services: Services, gate: SevenZipGate, records: Records) -> None:
        self._services = services
        self._gate = gate
        self._records = records
        self._manager_answers = threading.Event()
        self._body = InterruptedBody(zip_of(SMALL_MOD))

    async def begin(self, http: httpx.AsyncClient, stack: AsyncExitStack) -> None:
        """Begin them all; the Manager takes each attempt of a callback, so that each is seen to move the file."""
        self._services.manager.is_final = False
        self._services.manager.repeats_moves = True
        transfers = Transfers(self._services, http, stack)
        to_be_moved = [await self._packed(transfers) for _ in range(_TRIES)]
        self.told = transfers.upload_image(64)
        self._services.manager.script(self.told.ticket.job_id, Answer(hold=self._manager_answers))
        await eventually(lambda: self._services.manager.callbacks(self.told.ticket.job_id))
        for letter in "txa":
            self._gate.hold(letter)
        self.continued = await transfers.fetch(PACKED_LARGE, '"v1"', whole=False)
        self.repeated = await transfers.fetch(PACKED_LARGE, whole=False)
        self.tested = await transfers.fetch(zip_of(SMALL_MOD, zipfile.ZIP_BZIP2), '"v1"')
        self.extracted = await transfers.fetch(seven_zip_of(SMALL_MOD), '"v1"')
        self.packed = await transfers.fetch(tar_of(SMALL_MOD), '"v1"')
        self.uploaded = transfers.upload(aiter(self._body))
        await self._records.until(self.uploaded.ticket, stage="uploading")
        await self._records.until(self.continued.ticket, bytes=_HALF)
        await self._records.until(self.repeated.ticket, bytes=_HALF)
        for letter in "txa":
            await eventually(lambda: self._gate.held(letter))
        self.workers = children(self._services.servers["loader"].process.pid)
        while not await self._stopped_in_image_and_move(transfers, to_be_moved.pop()):
            assert to_be_moved, "image or move was over each time before the workers could be stopped"
            send_signal(self.workers, signal.SIGCONT)
            await asyncio.gather(self.move, self.normalised.answer)
        self.commands = [pid for letter in "txa" for pid in self._gate.held(letter)]
        for transfer, stage in (
            (self.tested, "downloaded"),
            (self.extracted, "extracting"),
            (self.packed, "repacking"),
        ):
            assert (await self._records.get(transfer.ticket))["stage"] == stage

    async def _packed(self, transfers: Transfers) -> Upload:
        upload = transfers.upload(MOVED, pack_level=0)
        self._services.manager.script(upload.ticket.job_id, Answer(move=False))
        assert (await upload.answer).status_code == 200
        return upload

    async def _stopped_in_image_and_move(self, transfers: Transfers, moved: Upload) -> bool:
        """Stop the workers once both are seen to write their files, and tell whether both were still at it.

        Nothing holds these two.
        """
        self.moved = moved
        target = self._services.main_dir / self.moved.ticket.path
        self.normalised = transfers.upload_image(2000)
        workspace = self._services.main_dir / "temp" / self.normalised.ticket.job_id
        await asyncio.to_thread(_wait_for_file, workspace, "*/*.part")
        path = self.moved.ticket.path.removeprefix("archive/")
        move = asyncio.to_thread(self._services.manager.move, self.moved.ticket.job_id, "archive", path)
        self.move = asyncio.ensure_future(move)
        await asyncio.to_thread(_wait_for_file, target.parent, "*")
        send_signal(self.workers, signal.SIGSTOP)
        stage = (await self._records.get(self.normalised.ticket))["stage"]
        return stage == "processing" and not target.exists()

    def all(self) -> Sequence[Fetch | Upload]:
        """Return them all."""
        fetches = self.continued, self.repeated, self.tested, self.extracted, self.packed
        return *fetches, self.uploaded, self.told, self.normalised, self.moved

    def go_on(self) -> None:
        """Keep back nothing any more."""
        self._gate.release()
        self._manager_answers.set()
        self._body.go_on.set()
        for fetch in (self.continued, self.repeated):
            fetch.file.go_on.set()

    async def assert_taken_over(self) -> None:
        """Check that other workers brought each to its end."""
        for fetch in (self.tested, self.extracted, self.packed):
            await assert_arrived(self._services, fetch.ticket, SMALL_MOD)
            assert len(fetch.origin.requests) == 1, "a finished download is never fetched again"
        for fetch in (self.continued, self.repeated):
            await assert_arrived(self._services, fetch.ticket, LARGE)
        first, second = self.continued.origin.requests
        assert "range" not in first.headers and second.headers["if-range"] == '"v1"'
        assert 0 < int(second.headers["range"].removeprefix("bytes=").removesuffix("-")) <= _HALF
        assert ["range" in request.headers for request in self.repeated.origin.requests] == [False, False]
        await assert_interrupted(self._services, self.uploaded.ticket)
        for upload, count in ((self.normalised, 1), (self.told, 2)):
            callbacks = await reports_of(self._services, upload.ticket, count)
            moves = [callback.move for callback in callbacks if isinstance(callback.move, Moved)]
            assert {callback.claims["status"] for callback in callbacks} == {"success"}
            assert len(moves) == count
            assert (self._services.main_dir / moves[0].final_path).read_bytes()[8:12] == b"WEBP"
        record = await self._records.until(self.moved.ticket, owner=None)
        assert record["moved_bytes"] == record["packed_bytes"]
        stored = (self._services.main_dir / self.moved.ticket.path).read_bytes()
        assert list(entries_of(stored).values()) == [MOVED]


def _wait_for_file(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(folder.glob(pattern)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {pattern} in {folder}")
