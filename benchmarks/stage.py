"""The servers that are measured, over one storage root."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.support.nginx import nginx, site_for
from tests.support.servers import GRANIAN, Server, clean_environment, free_port, running
from tests.support.services import running_services

# The reference sends the same files, below `/unlinked/` by no link, and is an access service that allows everything at
# once.
_REFERENCE_SITE = """
location /download/ {{ alias {main_dir}/; sendfile on; tcp_nopush on; }}
location /unlinked/ {{
    alias {main_dir}/; sendfile on; tcp_nopush on; disable_symlinks on from={main_dir}/resource/;
}}
location /mod/ {{ default_type application/json; return 200 '{{"download": {{"value": true}}}}'; }}
"""


class Stage:
    """Starts servers over one storage root, each with one worker.

    Attributes:
        root: The storage root.
        reference: nginx with `sendfile`, and an access service that allows everything.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.root = folder / "root"
        for name in ("resource", "archive/mods", "avatar", "temp"):
            (self.root / name).mkdir(parents=True)
        self._folder = folder
        self._stack = stack
        self.reference = stack.enter_context(nginx(folder, _REFERENCE_SITE.format(main_dir=self.root), upstream_port=9))

    def stored(self, name: str, size: int) -> Path:
        """Write a file of random bytes below the storage root, and onto the disk, and return its path."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        block = secrets.token_bytes(min(size, 1 << 24))
        with path.open("wb") as file:
            for start in range(0, size, len(block)):
                file.write(block[: size - start])
            os.fsync(file.fileno())
        return path

    def distributor(self, **settings: object) -> Server:
        """Run a distributor with these settings."""
        place = self._folder / f"distributor-{free_port()}"
        place.mkdir()
        usual = {"MAIN_DIR": str(self.root), "ACCESS_SERVICE_URL": self.reference.url}
        running = self._stack.enter_context(running_services(place, "", ("distributor",), None, 1, **usual, **settings))
        return running.servers["distributor"]

    def front(self, behind: Server) -> Server:
        """Run nginx with the site file of `deploy/` before a distributor."""
        return self._stack.enter_context(nginx(self._folder, site_for(self.root), behind.port))

    def bare(self, file: Path) -> Server:
        """Run `benchmarks.bare`."""
        environment = {"BARE_FILE": str(file), "BARE_LENGTH": str(file.stat().st_size)}
        return self._stack.enter_context(bare_app("benchmarks.bare", self._folder, environment, "/path"))


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Return a stage whose servers all end with the block.

    Args:
        folder: An empty one.
    """
    with ExitStack() as stack:
        yield Stage(folder, stack)


@contextmanager
def bare_app(module: str, folder: Path, environment: Mapping[str, str], path: str) -> Iterator[Server]:
    """Run an ASGI app of `benchmarks` until the block ends.

    Args:
        folder: Takes the log.
        environment: What the app is told.
        path: Answered once it runs.
    """
    port = free_port()
    command = [*GRANIAN, "--host", "127.0.0.1", "--port", str(port), f"{module}:app"]

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    with running("bare", command, folder, {**clean_environment(), **environment}, port, answers) as server:
        yield server
