"""A primary of Redis, its replicas and their sentinels, which a test may kill."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.support.origins import CERTIFICATE
from tests.support.processes import kill, send_signal
from tests.support.servers import HOST, Server, clean_environment, free_port, running

NAME = "workshop"
"""What the sentinels call the primary."""
_SENTINELS = 3
_PATIENCE_SECONDS = 60
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Access:
    """How data servers and sentinels let others in: anybody, unless it says otherwise.

    Attributes:
        user: What stands before the sentinels in the URL: `user:password@`.
        query: What stands at the URL's end: `?name=value`.
        servers: Lines of each data server's configuration.
        sentinels: Lines of each sentinel's configuration.
        server_password: Of the user `default` of data servers, who is the test.
        sentinel_password: The same of the sentinels.
        tls: Whether there is nothing but TLS, with the certificate of `tests.support.origins`.
    """

    user: str = ""
    query: str = ""
    servers: Sequence[str] = ()
    sentinels: Sequence[str] = ()
    server_password: str | None = None
    sentinel_password: str | None = None
    tls: bool = False


class SentinelRedis:
    """Data servers, the first of which begins as the primary, and three sentinels.

    Args:
        down_after_seconds: After so long without an answer a sentinel takes a server for dead.

    Attributes:
        url: What `REDIS_URL` has to be.
        ports: Of the data servers.
        sentinels: Ports of the sentinels.
    """

    def __init__(
        self,
        folder: Path,
        stack: ExitStack | AsyncExitStack,
        *,
        replicas: int = 1,
        access: Access = Access(),
        down_after_seconds: float = 1.0,
    ) -> None:
        self._folder = folder
        self._stack = stack
        self._access = access
        self._down_after_ms = int(down_after_seconds * 1000)
        self._servers: dict[int, Server] = {}
        self.ports = [free_port() for _ in range(1 + replicas)]
        for port in self.ports:
            (folder / str(port)).mkdir()
            follows = [] if port == self.ports[0] else [f"replicaof {HOST} {self.ports[0]}"]
            lines = ["appendonly yes", 'save ""', "repl-diskless-sync-delay 0", *follows, *access.servers]
            self._configure(port, lines)
            self.start(port)
        self.sentinels = [self._begin_sentinel() for _ in range(_SENTINELS)]
        hosts = ",".join(f"{HOST}:{port}" for port in self.sentinels)
        scheme = "rediss" if access.tls else "redis"
        self.url = f"{scheme}+sentinel://{access.user}{hosts}/{NAME}/0{access.query}"
        self.until_whole()

    def _configure(self, port: int, lines: Sequence[str]) -> None:
        folder = self._folder / str(port)
        folder.mkdir(exist_ok=True)
        usual = [f"port {port}", f"bind {HOST}", "protected-mode no", f"dir {folder}"]
        if self._access.tls:
            usual[0] = f"port 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients no"
            usual += [f"tls-{purpose}-file {CERTIFICATE}" for purpose in ("cert", "key", "ca-cert")]
        # The servers write changes of their roles into it themselves.
        (folder / "redis.conf").write_text("\n".join([*usual, *lines, ""]))

    def _begin_sentinel(self) -> int:
        port = free_port()
        lines = [
            f"sentinel monitor {NAME} {HOST} {self.ports[0]} 2",
            f"sentinel down-after-milliseconds {NAME} {self._down_after_ms}",
            f"sentinel failover-timeout {NAME} 10000",
        ]
        self._configure(port, [*lines, *self._access.sentinels])
        self.start(port, "--sentinel")
        return port

    def start(self, port: int, *options: str) -> None:
        """Start a data server, for the first time or with what it has on its disk.

        Args:
            options: `--sentinel` for a sentinel; otherwise entries of the configuration that count more than its file.
        """
        folder = self._folder / str(port)
        command = ["redis-server", str(folder / "redis.conf"), *options]
        client = self._sentinel_client(port) if "--sentinel" in options else self.data(port)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        with client:
            server = running("redis", command, folder, clean_environment(), port, answers)
            self._servers[port] = self._stack.enter_context(server)

    def kill(self, port: int) -> None:
        """Kill a data server or a sentinel."""
        kill([self.process_id(port)])

    @contextmanager
    def silent(self, port: int) -> Iterator[None]:
        """Let a data server or a sentinel answer nothing, as if its host could not be reached."""
        send_signal([self.process_id(port)], signal.SIGSTOP)
        try:
            yield
        finally:
            send_signal([self.process_id(port)], signal.SIGCONT)

    def process_id(self, port: int) -> int:
        """Return the process id of a data server or a sentinel."""
        return self._servers[port].process.pid

    def _client(self, port: int, password: str | None) -> redis.Redis:
        tls = {"ssl": True, "ssl_ca_certs": str(CERTIFICATE)} if self._access.tls else {}
        options = {"password": password, "socket_timeout": 1, "decode_responses": True, **tls}
        return redis.Redis(HOST, port, **options)  # type: ignore[arg-type]

    def client(self) -> redis.Redis:
        """Return a client of the primary."""
        return self.data(self.until_whole())

    def data(self, port: int) -> redis.Redis:
        """Return a client of one data server."""
        return self._client(port, self._access.server_password)

    def _sentinel_client(self, port: int) -> redis.Redis:
        return self._client(port, self._access.sentinel_password)

    def primary(self) -> int | None:
        """Return the port of the living primary that all sentinels name, if they name one."""
        named = set()
        for sentinel in self.sentinels:
            with self._sentinel_client(sentinel) as client:
                state = client.sentinel_master(NAME)
            named.add(None if state["is_sdown"] or state["is_odown"] else int(state["port"]))
        return named.pop() if len(named) == 1 else None

    def make_another_primary(self) -> None:
        """Have a sentinel begin a failover though the primary is alive."""
        with self._sentinel_client(self.sentinels[0]) as client:
            client.execute_command("SENTINEL", "FAILOVER", NAME)

    def until_failover(self, old: int) -> int:
        """Return the port of the new primary, once all sentinels name it."""
        return _until(lambda: None if (port := self.primary()) == old else port)

    def until_whole(self) -> int:
        """Return the port of the primary once all others follow it, and each sentinel knows all of them."""
        others = len(self.ports) - 1

        def is_whole() -> int | None:
            if (port := self.primary()) is None:
                return None
            with self.data(port) as client:
                state = client.info("replication")
            online = [state.get(f"slave{number}", {}).get("state") for number in range(others)].count("online")
            known = [self._known(sentinel) for sentinel in self.sentinels]
            return port if online == others and set(known) == {(_SENTINELS - 1, others)} else None

        return _until(is_whole)

    def until_known_as_down(self, port: int) -> None:
        """Return once the first sentinel takes a replica, or another sentinel, for dead."""

        def is_known() -> int | None:
            with self._sentinel_client(self.sentinels[0]) as client:
                others = [*client.sentinel_slaves(NAME), *client.sentinel_sentinels(NAME)]
            return next((port for one in others if one["port"] == port and one["is_sdown"]), None)

        _until(is_known)

    def _known(self, sentinel: int) -> tuple[int, int]:
        with self._sentinel_client(sentinel) as client:
            replicas = [one for one in client.sentinel_slaves(NAME) if not one["is_sdown"]]
            return len(client.sentinel_sentinels(NAME)), len(replicas)


def _until(answer: Callable[[], int | None]) -> int:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if (found := answer()) is not None:
                return found
        except redis.RedisError:
            # A server that has just been killed or started.
            pass
        time.sleep(_POLL_SECONDS)
    raise TimeoutError("the sentinels came to no end")
