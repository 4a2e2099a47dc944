"""The page of the demo's stand-in Manager: its buttons make links to transfers, which the console opens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from tests.support.manager import StandIn
from tests.support.servers import QuietHandler, http_server

_PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Stand-in Manager</title>
<h1>The demo's stand-in Manager</h1>
<p>A workshop's site makes a link for each file that someone is to send. It leads to the console.</p>
<form method="post">
  <button name="kind" value="archive">Send an archive</button>
  <button name="kind" value="img">Send a picture</button>
</form>
"""


@contextmanager
def transfer_links(manager: StandIn, console: str, mod_id: int) -> Iterator[str]:
    """Serve the page until the block ends; give its address.

    Args:
        console: The address of the loader's console.
        mod_id: The mod whose archive is sent.
    """

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(_PAGE)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
            job_id = f"demo-{time.time_ns()}"
            claims: dict[str, object] = {"mod_id": mod_id}
            if form.get("kind") == ["img"]:
                target = f"demo/{job_id}.webp"
                claims = {"transfer_kind": "img", "storage_type": "resource", "target_path": target}
            self.send_response(303)
            self.send_header("Location", f"{console}#token={manager.transfer_token(job_id, **claims)}")
            self.end_headers()

    with http_server(Handler) as url:
        yield f"{url}/"
