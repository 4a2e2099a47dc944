"""Hosts that share nothing but Redis and a bucket."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from open_workshop_storage.services.storage.bucket_requests import Credentials
from tests.support.configs import Secrets, write_config
from tests.support.manager import StandIn, stand_in
from tests.support.object_store import settings_of
from tests.support.servers import Server, clean_environment, granian
from tests.support.services import Services, usual_settings


@dataclass(frozen=True)
class Hosts:
    """Some hosts with a loader each, and one more with a distributor.

    Attributes:
        loaders: By the host's number.
        folders: Their storage roots.
        start: Starts what runs on a host of this number, at a port.
    """

    manager: StandIn
    secrets: Secrets
    loaders: list[Server]
    folders: list[Path]
    distributor: Server
    start: Callable[[int, int], Server]

    def restart(self, host: int) -> None:
        """Start the loader of a host again, whose processes have been killed."""
        self.loaders[host] = self.start(host, self.loaders[host].port)

    def services(self, host: int) -> Services:
        """Return the services as a client sees them whose requests this host's loader gets."""
        servers = {"loader": self.loaders[host], "distributor": self.distributor}
        return Services("redis", self.folders[host], self.secrets, self.manager, servers)


@contextmanager
def running_hosts(
    folder: Path, redis_url: str, bucket: Credentials, loaders: int = 2, workers: int = 1, **settings: object
) -> Iterator[Hosts]:
    """Run hosts and a stand-in Manager, which calls the last host's loader, until the block ends.

    Args:
        workers: Of each loader.
    """
    shared = Secrets()
    with ExitStack() as stack:
        manager = stack.enter_context(stand_in(shared))
        usual = usual_settings(folder, manager, shared, redis_url)
        config = write_config(folder, usual | settings_of(bucket, S3_PREFIX=f"test-{secrets.token_hex(4)}") | settings)
        folders = [folder / f"host{number}" for number in range(loaders + 1)]

        def start(number: int, port: int = 0) -> Server:
            main_dir = folders[number]
            variables = clean_environment() | {"OW_CONFIG": str(config), "MAIN_DIR": str(main_dir)}
            app, count = ("loader", workers) if number < loaders else ("distributor", 1)
            return stack.enter_context(granian(app, main_dir, variables, workers=count, port=port))

        for main_dir in folders:
            main_dir.mkdir()
        servers = [start(number) for number in range(loaders + 1)]
        manager.loader_url = servers[loaders - 1].url
        yield Hosts(manager, shared, servers[:loaders], folders[:loaders], servers[loaders], start)
