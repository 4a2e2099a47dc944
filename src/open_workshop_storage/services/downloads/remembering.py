"""What downloads remember of earlier requests: answers that are given again while the file is as it was then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from starlette.types import Message, Receive, Scope, Send

from open_workshop_storage.observability.telemetry import name_route
from open_workshop_storage.services.downloads.block_sender import BlockSender
from open_workshop_storage.services.downloads.plan import Header, Piece, Plan
from open_workshop_storage.services.storage.files import Files, StoredFile

_MOST_ANSWERS = 4096
"""How many a worker remembers; all together take 13 MB at most."""
# A name of a few folders, that of a file in a ZIP, one entity tag, and the codings of a browser.
_USUAL_BYTES = 512
_SETTLING_NS = 10**9
_EMPTY_BODY: Message = {"type": "http.response.body", "body": b""}

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

Request = tuple[str, bytes, bytes, bytes]
"""All that decides on an answer besides the file and the client's permission: the path, the query, the entity tags that
the client knows, and the codings that it takes."""


def remember(known: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """Remember a value as the latest of at most so many, and forget the one that was remembered first.

    A plain dictionary holds them, since looking something up in one of `cachetools` takes four times as long.
    """
    known.pop(key, None)
    if len(known) >= most:
        del known[next(iter(known))]
    known[key] = value


class Repeatable(NamedTuple):
    """An answer to a request, which is the right one as long as the file is as it was."""

    file: StoredFile
    plan: Plan


class _Answer(NamedTuple):
    file: StoredFile
    head: Message
    pieces: Sequence[Piece]
    route: str


class RememberedAnswers:
    """The latest answers that may be given again.

    To give one again takes about half the time that it takes to judge the request and to plan the answer.

    Args:
        files: Those that were given out.
        permits: Tells whether it is remembered that the client with some cookies may download a mod.
        blocks: Sends them.
    """

    def __init__(self, files: Files, permits: Callable[[str, bytes], bool], blocks: BlockSender) -> None:
        self._files = files
        self._permits = permits
        self._blocks = blocks
        self._answers: dict[Request, _Answer] = {}

    async def give(self, request: Request, cookies: bytes, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a request if its answer is remembered, its file is unchanged, and this client is known to be allowed.

        Args:
            cookies: The value of the request's `Cookie` header.

        Returns:
            Whether it is answered.
        """
        answer = self._answers.get(request)
        if answer is None:
            return False
        file, head, pieces, route = answer
        if file.mod_id is not None and not self._permits(file.mod_id, cookies):
            return False
        opened = self._files.reopen(file)
        if opened is None:
            return False
        try:
            name_route(scope, route)
            await send(head)
            if pieces:
                await self._blocks.send(opened, pieces, receive, send)
            else:
                await send(_EMPTY_BODY)
        finally:
            opened.close()
        return True

    def remember(self, request: Request, answer: Repeatable, common_headers: Sequence[Header], route: str) -> None:
        """Remember an answer that was given, unless it is too long, or the file might change unnoticed.

        Args:
            common_headers: What the answer had besides the plan's own headers.
            route: The name of what was asked for, for telemetry.
        """
        file, plan = answer
        path, *others = request
        if len(os.fsencode(path)) + sum(map(len, others)) > _USUAL_BYTES:
            return
        # Two changes at nearly the same time may bear the same one.
        if max(file.modified_ns, file.changed_ns) > time.time_ns() - _SETTLING_NS:
            return
        opened = self._files.reopen(file)
        if opened is None:
            return
        opened.close()
        head = {"type": "http.response.start", "status": int(plan.status), "headers": [*plan.headers, *common_headers]}
        remember(self._answers, request, _Answer(file, head, plan.pieces, route), _MOST_ANSWERS)
