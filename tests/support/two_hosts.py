"""Two hosts in a network of their own: each with its own loopback and one cable, which a test may pull.

To be used below `NAMESPACE`, with `CENTRE` as the environment: what the hosts share runs at an address that they reach.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from open_workshop_storage.services.storage.bucket_requests import Credentials
from tests.support.configs import Secrets, write_config
from tests.support.manager import stand_in
from tests.support.nginx import OBJECT_PREFIX, nginx_site, object_site_for
from tests.support.object_store import running_object_store, settings_of
from tests.support.sentinel import SentinelRedis
from tests.support.servers import HOST, clean_environment, free_port, granian_command, running
from tests.support.services import Services, usual_settings

NAMESPACE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
CENTRE = {"TESTS_HOST": "10.77.0.1"}


@dataclass(frozen=True)
class Host:
    """A host with a loader and a distributor.

    Attributes:
        folder: Its storage root, which no other host sees.
        cable: The end of its cable that is not at the host.
    """

    address: str
    folder: Path
    cable: str
    loader: str
    distributor: str

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Cut it off until the block ends: what is sent to it or by it is lost, and nobody is told."""
        _ip("link", "set", self.cable, "down")
        try:
            yield
        finally:
            _ip("link", "set", self.cable, "up")


@dataclass(frozen=True)
class TwoHosts:
    """The hosts, and what they share.

    Attributes:
        services: As clients and the Manager reach them: through nginx.
        prefix: What all keys in the bucket begin with.
    """

    hosts: list[Host]
    services: Services
    redis: SentinelRedis
    bucket: Credentials
    prefix: str


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _set_up_network() -> None:
    # `ip netns` keeps names there, and other users may not write into it.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "bridge", "type", "bridge")
    _ip("address", "add", f"{HOST}/24", "dev", "bridge")
    _ip("link", "set", "bridge", "up")


def _connect(name: str, address: str, cable: str) -> None:
    _ip("netns", "add", name)
    _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("link", "set", cable, "master", "bridge", "up")
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")


def _start(app: str, name: str, address: str, main_dir: Path, config: Path, stack: ExitStack) -> str:
    port = free_port()

    def is_healthy() -> bool:
        try:
            return httpx.get(f"http://{address}:{port}/{app}/healthz", timeout=1, verify=False).status_code == 200
        except httpx.TransportError:
            return False

    inside = ["nsenter", f"--net=/run/netns/{name}", *granian_command(app, port, host=address)]
    variables = clean_environment() | {"OW_CONFIG": str(config), "MAIN_DIR": str(main_dir)}
    stack.enter_context(running(app, inside, main_dir, variables, port, is_healthy))
    return f"{address}:{port}"


@contextmanager
def running_two_hosts(folder: Path, **settings: object) -> Iterator[TwoHosts]:
    """Run the hosts, a Redis led by sentinels, a bucket, a stand-in Manager and nginx until the block ends."""
    _set_up_network()
    shared, prefix = Secrets(), f"test-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        store = stack.enter_context(running_object_store(folder))
        bucket = store.bucket()
        redis = SentinelRedis(folder, stack)
        manager = stack.enter_context(stand_in(shared))
        usual = usual_settings(folder, manager, shared, redis.url)
        stored = settings_of(bucket, S3_PREFIX=prefix, ACCEL_REDIRECT_PREFIX=OBJECT_PREFIX)
        config = write_config(folder, usual | stored | settings)
        hosts = []
        for number in range(2):
            name, cable, address = f"host{number}", f"cable{number}", f"10.77.0.{2 + number}"
            _connect(name, address, cable)
            main_dir = folder / name
            main_dir.mkdir()
            loader, distributor = (
                _start(app, name, address, main_dir, config, stack) for app in ("loader", "distributor")
            )
            hosts.append(Host(address, main_dir, cable, loader, distributor))
        upstreams = [host.distributor for host in hosts], [host.loader for host in hosts]
        nginx = stack.enter_context(nginx_site(folder, object_site_for(store.server.url), *upstreams))
        manager.loader_url = nginx.url
        services = Services("redis", hosts[0].folder, shared, manager, {"loader": nginx, "distributor": nginx})
        yield TwoHosts(hosts, services, redis, bucket, prefix)
