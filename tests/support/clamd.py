"""A real daemon of ClamAV that knows one signature of the tests' own, and needs no network."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.processes import send_signal
from tests.support.servers import HOST, Server, clean_environment, free_port, running

MARKER = b"OPEN-WORKSHOP-STORAGE-HARMLESS-MARKER"
"""What the daemon takes for malware."""
NAME = "OpenWorkshop.Marker.UNOFFICIAL"
"""What it calls that; the daemon adds the ending to names that are not ClamAV's own."""
MOST_BYTES = 4 * 1024 * 1024
"""The largest file that it judges, and the most that it reads of one with all that is in it."""
PROGRAM = shutil.which("clamd") or shutil.which("/usr/sbin/clamd")


class Clamd:
    """A daemon that a test may end, freeze and start again.

    Attributes:
        config: Its configuration file.
        local: What `CLAMD_ADDRESS` has to be for its Unix socket.
        tcp: The same for its port.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._server: Server
        self._port = free_port()
        signatures = folder / "signatures"
        signatures.mkdir()
        (signatures / "tests.ndb").write_text(f"OpenWorkshop.Marker:0:*:{MARKER.hex()}\n")
        # The path of a socket may have 107 bytes.
        self._socket = folder / "s"
        self.config = folder / "clamd.conf"
        self.local, self.tcp = f"unix:{self._socket}", f"tcp:{HOST}:{self._port}"
        usual = (
            "Foreground yes",
            f"DatabaseDirectory {signatures}",
            f"LocalSocket {self._socket}",
            f"TCPAddr {HOST}",
            f"TCPSocket {self._port}",
            f"MaxFileSize {MOST_BYTES}",
            f"MaxScanSize {MOST_BYTES}",
            f"StreamMaxLength {MOST_BYTES}",
            "AlertExceedsMax yes",
        )
        names = {line.split()[0] for line in lines}
        kept = [line for line in usual if line.split()[0] not in names]
        self.config.write_text("\n".join([*kept, *lines, ""]))

    def start(self) -> None:
        """Start it unless it runs, and return when it answers."""
        assert PROGRAM is not None
        if self._answers():
            return
        command = [PROGRAM, "--config-file", str(self.config)]
        server = running("clamd", command, self._folder, clean_environment(), self._port, self._answers)
        self._server = self._stack.enter_context(server)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self._port), 1) as connection:
            connection.sendall(b"zPING\0")
            return connection.recv(8) == b"PONG\0"
        return False

    def kill(self) -> None:
        """Kill it, and leave its socket behind."""
        self._server.process.kill()
        self._server.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it do nothing while the block runs."""
        send_signal([self._server.process.pid], signal.SIGSTOP)
        try:
            yield
        finally:
            send_signal([self._server.process.pid], signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        self._stack.close()


@contextmanager
def running_clamd(folder: Path, *lines: str) -> Iterator[Clamd]:
    """Run a daemon until the block ends.

    Args:
        lines: Of its configuration, in place of the usual ones of the same names.
    """
    clamd = Clamd(folder, *lines)
    try:
        clamd.start()
        yield clamd
    finally:
        clamd.stop()
