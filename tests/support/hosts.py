"""Hosts that share nothing but Redis and a bucket."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from open_workshop_storage.services.storage.bucket_requests import Credentials
from tests.support.configs import Secrets, write_config
from tests.support.manager import StandIn, stand_in
from tests.support.object_store import settings_of
from tests.support.servers import Server, clean_environment, granian
from tests.support.services import Services


@dataclass(frozen=True)
class Hosts:
    """Some hosts with a loader each, and one more with a distributor.

    Attributes:
        loaders: By the host's number.
        folders: Their storage roots.
    """

    manager: StandIn
    secrets: Secrets
    loaders: list[Server]
    folders: list[Path]
    distributor: Server

    def services(self, host: int) -> Services:
        """Return the services as a client sees them whose requests this host's loader gets."""
        servers = {"loader": self.loaders[host], "distributor": self.distributor}
        return Services("redis", self.folders[host], self.secrets, self.manager, servers)


@contextmanager
def running_hosts(
    folder: Path, redis_url: str, bucket: Credentials, loaders: int = 2, **settings: object
) -> Iterator[Hosts]:
    """Run hosts and a stand-in Manager, which calls the last host's loader, until the block ends."""
    shared = Secrets()
    with ExitStack() as stack:
        manager = stack.enter_context(stand_in(shared))
        usual: dict[str, object] = {
            "MANAGER_URL": manager.url,
            "ACCESS_SERVICE_URL": manager.url,
            "STORAGE_RESERVE_BYTES": 0,
            "TRANSFER_ALLOWED_NETWORKS": "127.0.0.1/32",
            "REDIS_URL": redis_url,
            "REDIS_PREFIX": f"test-{folder.name}",
            **settings_of(bucket, S3_PREFIX=f"test-{secrets.token_hex(4)}"),
            **shared.settings(),
        }
        config = write_config(folder, usual | settings)
        folders = [folder / f"host{number}" for number in range(loaders + 1)]
        servers = []
        for number, main_dir in enumerate(folders):
            main_dir.mkdir()
            variables = clean_environment() | {"OW_CONFIG": str(config), "MAIN_DIR": str(main_dir)}
            app = "loader" if number < loaders else "distributor"
            servers.append(stack.enter_context(granian(app, main_dir, variables)))
        manager.loader_url = servers[loaders - 1].url
        yield Hosts(manager, shared, servers[:loaders], folders[:loaders], servers[loaders])
