"""A real nginx in front of the services, with the files of `deploy/`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.origins import CERTIFICATE
from tests.support.servers import HOST, PROJECT, Server, clean_environment, free_port, running

DOWNLOADS = PROJECT / "deploy" / "nginx-downloads.conf"
OBJECT_DOWNLOADS = PROJECT / "deploy" / "nginx-object-downloads.conf"
SITE = PROJECT / "deploy" / "nginx-site.conf"
PREFIX = "/stored-files"
"""What `ACCEL_REDIRECT_PREFIX` is to be for the first file."""
OBJECT_PREFIX = "/stored-objects"
"""The same for the second."""

# Debian has it where only root's commands are looked for.
_COMMAND = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") or "nginx"
_KEEPALIVE = "    keepalive 32;\n    keepalive_timeout 20s;\n"
_EXAMPLE_FOLDER = "/srv/open-workshop/storage/"


def site_for(main_dir: Path) -> str:
    """Return what belongs into a server block for downloads, with a storage root in place of the example."""
    return _filled(DOWNLOADS.read_text(), {_EXAMPLE_FOLDER: f"{main_dir}/"})


def object_site_for(endpoint: str) -> str:
    """Return what belongs into a server block for downloads from a store."""
    return _filled(OBJECT_DOWNLOADS.read_text(), {"http://127.0.0.1:8333/;": f"{endpoint}/;"})


def _filled(text: str, replacements: Mapping[str, str]) -> str:
    for example, value in replacements.items():
        assert example in text, example
        text = text.replace(example, value)
    return text


def _servers(addresses: Sequence[str]) -> str:
    return " ".join(f"server {address};" for address in addresses)


@contextmanager
def nginx_site(
    folder: Path,
    downloads: str,
    distributors: Sequence[str],
    loaders: Sequence[str],
    redirect_port: int = 0,
    tls_port: int = 0,
) -> Iterator[Server]:
    """Run nginx with the whole site of `deploy/` until the block ends.

    What is there for HTTPS is given over plain HTTP too, which is what the server's URL leads to.

    Args:
        folder: Takes configurations and logs: `access.log`, `error.log`.
        downloads: What `site_for` or `object_site_for` returns.
        distributors: Address and port of each.
        loaders: The same.
        redirect_port: What port 80 becomes; 0 for a free one.
        tls_port: What port 443 becomes; 0 for a free one.

    Raises:
        StartFailed: nginx ended instead of starting.
    """
    port = free_port()
    included = folder / "downloads.conf"
    included.write_text(downloads)
    site = _filled(
        SITE.read_text(),
        {
            "server 127.0.0.1:8000;": _servers(distributors),
            # What docs/DEPLOYMENT.md says of several hosts.
            **({_KEEPALIVE: ""} if len(distributors) > 1 else {}),
            "server 127.0.0.1:8001;": _servers(loaders),
            "    listen 80;\n    listen [::]:80;\n": f"    listen {HOST}:{redirect_port or free_port()};\n",
            "    listen 443 ssl http2;\n    listen [::]:443 ssl http2;\n": (
                f"    listen {HOST}:{tls_port or free_port()} ssl http2;\n    listen {HOST}:{port};\n"
            ),
            "/etc/letsencrypt/live/storage.example.org/fullchain.pem": str(CERTIFICATE),
            "/etc/letsencrypt/live/storage.example.org/privkey.pem": str(CERTIFICATE),
            "/opt/open-workshop-storage/deploy/nginx-downloads.conf": str(included),
            "/var/log/nginx/open-workshop.log": str(folder / "access.log"),
            "/var/log/nginx/open-workshop-error.log": str(folder / "error.log"),
        },
    )
    with _nginx(folder, site, port, "/", 404) as server:
        yield server


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
    http = f"""
    access_log off;
    keepalive_requests 1000000;
    upstream distributor {{ server {HOST}:{upstream_port}; keepalive 32; keepalive_requests 1000000; }}
    server {{ listen {HOST}:{port}; location = /started {{ return 204; }}
{site}
    }}
"""
    with _nginx(folder, http, port, "/started", 204) as server:
        yield server


@contextmanager
def _nginx(folder: Path, http: str, port: int, known_path: str, known_status: int) -> Iterator[Server]:
    folder = folder / f"nginx-{port}"
    folder.mkdir()
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Its workers would change to a user that may not see the tests' folders.
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(f"""{user}
daemon off;
pcre_jit on;
worker_processes 1;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    {temporary}
{http}
}}
""")

    def answers() -> bool:
        try:
            return httpx.get(f"http://{HOST}:{port}{known_path}", timeout=1).status_code == known_status
        except httpx.TransportError:
            return False

    with running("nginx", [_COMMAND, "-c", str(config)], folder, clean_environment(), port, answers) as server:
        yield server
