"""The servers that are measured, over one storage root."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image

from tests.support.nginx import PREFIX, nginx, site_for
from tests.support.servers import Server, _running, clean_environment, free_port
from tests.support.services import running_services

LARGE_BYTES = 1 << 30
SMALL_BYTES = 20_000
IMAGES = 100

# The reference sends the same files, and is an access service that allows everything at once.
_REFERENCE_SITE = """
location /download/ {{ alias {main_dir}/; sendfile on; tcp_nopush on; }}
location /mod/ {{ default_type application/json; return 200 '{{"download": {{"value": true}}}}'; }}
"""


@dataclass(frozen=True)
class Stage:
    """Running servers.

    Attributes:
        root: The storage root of all of them.
        bare: An ASGI app that only sends the small file by its path.
        reference: nginx with `sendfile`.
        plain: A distributor.
        remembering: The same with `ACCESS_CACHE_TTL_SECONDS`.
        behind: The same with `ACCEL_REDIRECT_PREFIX`.
        front: The nginx before it.
    """

    root: Path
    bare: Server
    reference: Server
    plain: Server
    remembering: Server
    behind: Server
    front: Server


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Run all servers until the block ends."""
    root = folder / "root"
    small = root / "resource" / "small" / "7.webp"
    _fill(root, small)
    with ExitStack() as stack:
        reference = stack.enter_context(nginx(folder, _REFERENCE_SITE.format(main_dir=root), upstream_port=9))

        def distributor(name: str, **settings: object) -> Server:
            place = folder / name
            place.mkdir()
            usual = {"MAIN_DIR": str(root), "ACCESS_SERVICE_URL": reference.url}
            running = running_services(place, "", ("distributor",), None, **usual, **settings)
            return stack.enter_context(running).servers["distributor"]

        behind = distributor("behind", ACCEL_REDIRECT_PREFIX=PREFIX)
        yield Stage(
            root=root,
            bare=stack.enter_context(_bare(folder, small)),
            reference=reference,
            plain=distributor("plain"),
            remembering=distributor("remembering", ACCESS_CACHE_TTL_SECONDS=5),
            behind=behind,
            front=stack.enter_context(nginx(folder, site_for(root), behind.port)),
        )


@contextmanager
def _bare(folder: Path, small: Path) -> Iterator[Server]:
    port = free_port()
    granian = str(Path(sys.executable).with_name("granian"))
    command = [granian, "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "benchmarks.bare:app"]
    environment = clean_environment() | {"BARE_FILE": str(small), "BARE_LENGTH": str(SMALL_BYTES)}

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    with _running("bare", command, folder, environment, port, answers) as server:
        yield server


def _fill(root: Path, small: Path) -> None:
    for name in ("resource/covers", "resource/small", "archive/mods/7", "avatar", "temp"):
        (root / name).mkdir(parents=True)
    small.write_bytes(secrets.token_bytes(SMALL_BYTES))
    shutil.copy(small, root / "archive" / "mods" / "7" / "main.zip")
    block = secrets.token_bytes(1 << 24)
    with (root / "resource" / "large.bin").open("wb") as file:
        for _ in range(LARGE_BYTES // len(block)):
            file.write(block)
        os.fsync(file.fileno())
    # Blurred noise is about as hard to decode as a photograph.
    picture = Image.effect_noise((320, 180), 90).resize((1280, 720)).convert("RGB")
    picture.save(root / "resource" / "covers" / "0.webp")
    for index in range(1, IMAGES):
        shutil.copy(root / "resource" / "covers" / "0.webp", root / "resource" / "covers" / f"{index}.webp")
