"""A stand-in for the two services that the storage calls: the Manager and the Access service."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx

from open_workshop_storage import client
from open_workshop_storage.client import InvalidToken, Moved, Storage, StorageError
from tests.support.configs import Secrets
from tests.support.servers import QuietHandler, http_server

CALLBACK_PATH = "/internal/storage/transfer-completions"
WAIT_SECONDS = 60
_SECONDS_BEHIND = 30

ALLOWED = {"download": {"value": True, "reason": "", "reason_code": ""}}


@dataclass(frozen=True)
class Answer:
    """How one callback attempt is to be answered.

    Attributes:
        delay: Seconds before the answer.
        hold: The answer waits for this.
        move: Whether a success is followed by `/transfer/move`, as the real Manager does.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    hold: threading.Event | None = None
    move: bool = True


@dataclass
class Callback:
    """One attempt of the storage to report a job's end.

    Attributes:
        headers: The request's headers.
        body: The request's body, which should be empty.
        claims: The verified claims of its JWT.
        move: What came of `/transfer/move`, if there was such a call.
        answered: Whether the answer has left.
    """

    headers: dict[str, str]
    body: bytes
    claims: dict[str, Any]
    move: Moved | StorageError | None = None
    answered: bool = False

    @property
    def moved(self) -> Moved:
        """What the storage said of the file that it moved; it has to have moved it."""
        assert isinstance(self.move, Moved), self.move
        return self.move


@dataclass(frozen=True)
class AccessAnswer:
    """How the Access service answers for one mod.

    Attributes:
        body: Text as it is, or an object that is sent as JSON.
        delay: Seconds before the answer.
        drop: Close the connection instead of answering.
    """

    status: int = 200
    body: object = field(default_factory=lambda: ALLOWED)
    delay: float = 0
    drop: bool = False


@dataclass(frozen=True)
class AccessRequest:
    """A question that reached the Access service."""

    mod_id: str
    headers: dict[str, str]
    body: bytes


class StandIn:
    """Signs transfer tokens, takes callbacks, moves files while it handles them, and allows downloads.

    It has habits of the real Manager. Its clock is half a minute behind, and it refuses callbacks of the future for
    good. It settles a job with an error and with the move; from then on it answers 409 and moves nothing. A move
    that is not answered 200, whatever the reason, fails the job: 502 then, and 409 from then on. Its forms have the
    file before the token. Its transfer tokens have no `max_bytes`.

    Every callback is answered 200 after the move, and every download allowed, unless scripted otherwise. Scripted
    answers are those of a Manager that has not settled the job.

    Attributes:
        url: Base URL of both stand-in services.
        usual: How callbacks are answered that no script is for.
        loader_url: Where `/transfer/move` is called; known only after the loader has started.
        access: Scripted answers of the Access service by mod id.
        is_final: Whether a job that it has settled stays settled, whatever attempts follow.
        repeats_moves: Whether it forgives, unlike the real one, a move whose connection breaks, as workers die.
        refused: Why callbacks were refused that were no sound JWT.
    """

    def __init__(self, secrets: Secrets, port: int) -> None:
        self.usual = Answer()
        self.loader_url = ""
        self.access: dict[str, AccessAnswer] = {}
        self.access_requests: list[AccessRequest] = []
        self.is_final = True
        self.repeats_moves = False
        self.refused: list[str] = []
        self._secrets = secrets
        self._port = port
        self._listening = ExitStack()
        self._callbacks: dict[str, list[Callback]] = {}
        self._answers: dict[str, list[Answer]] = {}
        self._settled: set[str] = set()
        self._failed: set[str] = set()
        self._changed = threading.Condition()

    def start(self) -> None:
        """Listen, from the second time on at the same port as before."""
        self.url = self._listening.enter_context(http_server(_handler_of(self), self._port))
        self._port = int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """Refuse connections from now on; calls that are being answered go on."""
        self._listening.close()

    def transfer_token(self, job_id: str, **claims: object) -> str:
        """Return a token that lets a browser send one file; for an archive unless the claims say otherwise."""
        signed = client.TransferClaims(job_id=job_id, others=claims)
        return client.sign_transfer_token(signed, self._secrets.jwt_secret)

    def script(self, job_id: str, *answers: Answer) -> None:
        """Set how a job's callback attempts are answered, one after the other; later ones as usual."""
        self._answers[job_id] = list(answers)

    def callbacks(self, job_id: str) -> list[Callback]:
        """Return the attempts that have arrived for a job so far."""
        with self._changed:
            return list(self._callbacks.get(job_id, ()))

    def wait_for_callbacks(self, job_id: str, count: int = 1) -> list[Callback]:
        """Wait until that many attempts for a job have been answered, and return them.

        Raises:
            TimeoutError: They did not come within `WAIT_SECONDS`.
        """

        def answered() -> list[Callback]:
            return [callback for callback in self._callbacks.get(job_id, ()) if callback.answered]

        with self._changed:
            if not self._changed.wait_for(lambda: len(answered()) >= count, WAIT_SECONDS):
                raise TimeoutError(f"{len(answered())} of {count} callbacks for {job_id}; refused: {self.refused}")
            return answered()

    def move(self, job_id: str, storage_type: Any, path: str) -> Moved:
        """Have the storage move a file.

        Raises:
            StorageError: It does not.
        """

        async def move() -> Moved:
            async with httpx.AsyncClient() as http:
                storage = Storage(http, self.loader_url, storage_manage_token=self._secrets.storage_manage_token)
                return await storage.move(job_id, storage_type, path)

        return asyncio.run(move())

    def upload(self, storage_type: str, path: str, content: bytes, file_kind: str = "bin") -> httpx.Response:
        """Call the storage's `/upload`, with the file first."""
        fields = {"type": storage_type, "path": path, "file_kind": file_kind, "token": self._secrets.upload_file}
        form = [("file", ("upload", content)), *((name, (None, value.encode())) for name, value in fields.items())]
        return httpx.post(f"{self.loader_url}/upload", files=form, timeout=WAIT_SECONDS)

    def take_callback(self, headers: dict[str, str], body: bytes) -> Answer:
        """Record one attempt, move the file, and return how to answer."""
        try:
            report = client.verify_callback(headers.get("authorization", ""), self._secrets.jwt_secret)
            if report.claims["iat"] > time.time() - _SECONDS_BEHIND:
                raise InvalidToken("It is of the future")
        except InvalidToken as error:
            self.refused.append(repr(error))
            return Answer(403)
        job_id = report.job_id
        callback = Callback(headers, body, dict(report.claims))
        with self._changed:
            self._callbacks.setdefault(job_id, []).append(callback)
            scripted = self._answers.get(job_id)
            if scripted:
                answer = scripted.pop(0)
            else:
                is_over = job_id in self._failed or (self.is_final and job_id in self._settled)
                answer = Answer(409, move=False) if is_over else self.usual
            self._changed.notify_all()
        if report.status == "success" and answer.move:
            callback.move = self._move_for(report)
            if isinstance(callback.move, StorageError):
                if not (self.repeats_moves and callback.move.status is None):
                    self._failed.add(job_id)
                answer = Answer(502)
        time.sleep(answer.delay)
        if answer.hold is not None:
            answer.hold.wait(WAIT_SECONDS)
        if 200 <= answer.status < 300 and (answer.move or report.status == "error"):
            self._settled.add(job_id)
        with self._changed:
            callback.answered = True
            self._changed.notify_all()
        return answer

    def _move_for(self, report: client.Callback) -> Moved | StorageError:
        storage_type = report.storage_type if report.transfer_kind == "img" else "archive"
        path = report.target_path or f"mods/{report.mod_id}/main.zip"
        try:
            return self.move(report.job_id, storage_type, path)
        except StorageError as error:
            return error

    def take_access_request(self, request: AccessRequest) -> AccessAnswer:
        """Record one question, and return how to answer."""
        self.access_requests.append(request)
        answer = self.access.get(request.mod_id, AccessAnswer())
        time.sleep(answer.delay)
        return answer


def _handler_of(manager: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            if self.path == CALLBACK_PATH:
                answer = manager.take_callback(headers, body)
                self._send(answer.status, b"{}", "application/json", answer.headers)
            elif self.path.startswith("/mod/"):
                access = manager.take_access_request(AccessRequest(self.path.removeprefix("/mod/"), headers, body))
                if access.drop:
                    self.close_connection = True
                elif isinstance(access.body, str):
                    self._send(access.status, access.body.encode(), "text/plain; charset=utf-8")
                else:
                    self._send(access.status, json.dumps(access.body).encode(), "application/json")
            else:
                self._send(404, b"Not found", "text/plain")

        def _send(self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


@contextmanager
def stand_in(secrets: Secrets, port: int = 0) -> Iterator[StandIn]:
    """Run both stand-in services on one port, 0 for a free one, until the block ends."""
    manager = StandIn(secrets, port)
    manager.start()
    try:
        yield manager
    finally:
        manager.stop()
