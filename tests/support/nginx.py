"""A real nginx in front of a distributor, with the site file of `deploy/`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.servers import PROJECT, Server, _running, clean_environment, free_port

SITE = PROJECT / "deploy" / "nginx-downloads.conf"
PREFIX = "/stored-files"
"""What `ACCEL_REDIRECT_PREFIX` is to be for that file."""

# Debian has it where only root's commands are looked for.
_COMMAND = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") or "nginx"
_EXAMPLE_FOLDER = "/srv/open-workshop/storage/"


def site_for(main_dir: Path) -> str:
    """Return the site file with a storage root in place of the example."""
    text = SITE.read_text()
    assert text.count(_EXAMPLE_FOLDER) == 1
    return text.replace(_EXAMPLE_FOLDER, f"{main_dir}/")


@contextmanager
def nginx(folder: Path, site: str, upstream_port: int) -> Iterator[Server]:
    """Run nginx with one worker until the block ends.

    Args:
        folder: Takes the configuration, the log and temporary files.
        site: What is in the server block.
        upstream_port: Where the upstream `distributor` listens.

    Raises:
        StartFailed: nginx ended instead of starting.
    """
    port = free_port()
    folder = folder / f"nginx-{port}"
    folder.mkdir()
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Its workers would change to a user who may not see the tests' folders.
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(f"""{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    {temporary}
    access_log off;
    keepalive_requests 1000000;
    upstream distributor {{ server 127.0.0.1:{upstream_port}; keepalive 32; keepalive_requests 1000000; }}
    server {{ listen 127.0.0.1:{port}; location = /started {{ return 204; }}
{site}
    }}
}}
""")

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/started", timeout=1).status_code == 204
        except httpx.TransportError:
            return False

    with _running("nginx", [_COMMAND, "-c", str(config)], folder, clean_environment(), port, answers) as server:
        yield server
