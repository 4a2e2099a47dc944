"""Both services with all that they need around them."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.configs import Secrets, write_config
from tests.support.manager import StandIn, stand_in
from tests.support.servers import HOST, PROJECT, Server, clean_environment, granian

REDIS_WORKERS = 2
"""How many a loader with Redis has, unless a test says otherwise: each takes a second and a half of a core to start."""


@dataclass(frozen=True)
class Ticket:
    """A transfer token for a job of its own.

    Attributes:
        path: Where the stand-in Manager will move an archive, relative to the storage root.
    """

    job_id: str
    mod_id: int
    token: str

    @property
    def path(self) -> str:
        return f"archive/mods/{self.mod_id}/main.zip"


@dataclass(frozen=True)
class Services:
    """Running services over one storage root.

    Attributes:
        store: Where jobs live: `memory` or `redis`.
        main_dir: The storage root.
        servers: What runs, by name: `loader`, `distributor` or `app`.
    """

    store: str
    main_dir: Path
    secrets: Secrets
    manager: StandIn
    servers: dict[str, Server]

    @property
    def loader(self) -> str:
        """The loader's base URL."""
        return self.servers["loader"].url

    @property
    def distributor(self) -> str:
        """The distributor's base URL."""
        return self.servers["distributor"].url

    def through(self, loader: Server) -> Services:
        """Return the same with another loader."""
        return replace(self, servers={**self.servers, "loader": loader})

    def ticket(self, **claims: object) -> Ticket:
        """Return a token for a new job; for an archive of a new mod, unless the claims say otherwise."""
        job_id, mod_id = f"job-{uuid.uuid4().hex}", secrets.randbelow(10**9)
        return Ticket(job_id, mod_id, self.manager.transfer_token(job_id, **{"mod_id": mod_id, **claims}))

    def stored(self, path: str, content: bytes) -> Path:
        """Put a file below the storage root and return its path."""
        target = self.main_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target


def usual_settings(folder: Path, manager: StandIn, shared: Secrets, redis_url: str) -> dict[str, object]:
    """Return what services under test are told, but for where their files are.

    Args:
        folder: Tells them from those of other tests, which may use the same Redis.
    """
    return {
        "MANAGER_URL": manager.url,
        "ACCESS_SERVICE_URL": manager.url,
        "STORAGE_RESERVE_BYTES": 0,
        # Where tests have their origins; the rest of the loopback network stays closed.
        "TRANSFER_ALLOWED_NETWORKS": f"{HOST}/32",
        "REDIS_URL": redis_url,
        "REDIS_PREFIX": f"test-{folder.name}",
        **shared.settings(),
    }


@contextmanager
def another_host(services: Services, folder: Path, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Run a second loader over the same Redis and storage root until the block ends, as another host would.

    It has one worker and a working directory of its own, and reaches the storage root by another path.

    Args:
        folder: Its own; takes its log.
        environment: Variables that it sees on top of the usual ones.
    """
    (folder / "src").symlink_to(PROJECT / "src")
    (folder / "mounted").symlink_to(services.main_dir)
    variables = clean_environment() | {"MAIN_DIR": str(folder / "mounted")} | (environment or {})
    variables["OW_CONFIG"] = str(services.main_dir.parent / "ow_config.py")
    with granian("loader", folder, variables, working_folder=folder) as server:
        yield server


@contextmanager
def running_services(
    folder: Path,
    redis_url: str = "",
    apps: Sequence[str] = ("loader", "distributor"),
    environment: dict[str, str] | None = None,
    redis_workers: int = REDIS_WORKERS,
    **settings: object,
) -> Iterator[Services]:
    """Run services and a stand-in Manager until the block ends; with Redis, the loader has several workers.

    Args:
        folder: Takes the storage root, the configuration and the logs.
        redis_url: Empty to keep jobs in memory.
        apps: Which of `loader`, `distributor` and `app` to start.
        environment: Variables that the services see on top of the usual ones.
        redis_workers: How many.
        settings: Entries of `ow_config.py` on top of the usual ones.
    """
    main_dir = folder / "storage"
    main_dir.mkdir()
    shared = Secrets()
    with ExitStack() as stack:
        manager = stack.enter_context(stand_in(shared))
        usual = {
            **usual_settings(folder, manager, shared, redis_url),
            "MAIN_DIR": str(main_dir),
            "ACCESS_SERVICE_TIMEOUT_SECONDS": 2,
            "CONSOLE_ENABLED": True,
        }
        config = write_config(folder, usual | settings)
        variables = clean_environment() | {"OW_CONFIG": str(config)} | (environment or {})
        servers = {}
        for app in apps:
            workers = redis_workers if redis_url and app == "loader" else 1
            servers[app] = stack.enter_context(granian(app, folder, variables, workers=workers))
        manager.loader_url = servers[apps[0]].url
        yield Services("redis" if redis_url else "memory", main_dir, shared, manager, servers)
