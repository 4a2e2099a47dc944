"""One transfer of each kind, kept under way while Redis goes away."""

from __future__ import annotations

import zipfile
from contextlib import AsyncExitStack

import httpx

from tests.e2e.under_way import LARGE, Fetch, Records, Transfers, Upload, assert_arrived
from tests.support.archives import SMALL_MOD, Entries, seven_zip_of, tar_of, zip_of
from tests.support.client import InterruptedBody, Watcher, eventually, watching
from tests.support.services import Services
from tests.support.seven_zip_gate import SevenZipGate


class HeldTransfers:
    """Each with an open socket.

    Attributes:
        fetched: Half fetched.
        extracted: Fetched, a 7z that `7z` extracts.
        tested: Fetched, a BZip2 ZIP, which `7z` tests.
        uploaded: A body of which only the beginning has come.
        body: That body.
    """

    def __init__(self, services: Services, gate: SevenZipGate, records: Records) -> None:
        self.body = InterruptedBody(tar_of(SMALL_MOD))
        self._services = services
        self._gate = gate
        self._records = records
        self._sockets: dict[str, Watcher] = {}

    async def begin(self, http: httpx.AsyncClient, stack: AsyncExitStack) -> None:
        """Return when all of them are where they are kept."""
        transfers = Transfers(self._services, http, stack)
        self._gate.hold("x")
        self._gate.hold("t")
        self.fetched = await transfers.fetch(tar_of(LARGE), whole=False)
        self.extracted = await transfers.fetch(seven_zip_of(SMALL_MOD))
        self.tested = await transfers.fetch(zip_of(SMALL_MOD, zipfile.ZIP_BZIP2))
        self.uploaded = transfers.upload(aiter(self.body))
        for transfer, stage in (
            (self.fetched, "downloading"),
            (self.extracted, "extracting"),
            (self.uploaded, "uploading"),
            (self.tested, "downloaded"),
        ):
            ticket = transfer.ticket
            await self._records.until(ticket, stage=stage)
            socket = watching(self._services.loader, ticket.job_id, ticket.token)
            self._sockets[ticket.job_id] = await stack.enter_async_context(socket)
        await eventually(lambda: self._gate.held("x") and self._gate.held("t"))

    async def assert_arrived(self, transfer: Fetch | Upload, entries: Entries) -> None:
        """Check that a transfer ended well, that its socket stayed open until then, and that it was fetched once."""
        socket = self._sockets[transfer.ticket.job_id]
        assert (await socket.finish())[-1]["event"] == "complete"
        assert socket.close_code == 1000
        await assert_arrived(self._services, transfer.ticket, entries)
        if isinstance(transfer, Fetch):
            assert len(transfer.origin.requests) == 1, "no worker took a job from one that is alive"
        else:
            assert (await transfer.answer).status_code == 200
