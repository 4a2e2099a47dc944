"""Requests per second for files of 20 KB, beside a bare ASGI app."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import httpx

from benchmarks.download_profile import profile_of_a_download
from benchmarks.load import requests_per_second
from benchmarks.report import Findings, interleaved, ratio
from benchmarks.stage import stage
from tests.support.nginx import PREFIX

_BYTES = 20_000
_ROUNDS = 15
_PUBLIC = "/download/resource/small/7.webp"
_PROTECTED = "/download/archive/mods/7/main.zip"


def measure(folder: Path) -> Findings:
    """Compare ways to answer for one small file, over 32 keep-alive connections."""
    with stage(folder) as servers:
        small = servers.stored("resource/small/7.webp", _BYTES)
        (servers.root / "archive" / "mods" / "7").mkdir()
        shutil.copy(small, servers.root / "archive" / "mods" / "7" / "main.zip")
        bare, plain = servers.bare(small), servers.distributor()
        remembering = servers.distributor(ACCESS_CACHE_TTL_SECONDS=5)
        front = servers.front(servers.distributor(ACCEL_REDIRECT_PREFIX=PREFIX))
        bare_front = servers.front(bare)
        accel = f"/download/accel{PREFIX}/{small.relative_to(servers.root)}"
        known = f"If-None-Match: {httpx.head(plain.url + _PUBLIC).headers['etag']}"
        cookie = "Cookie: accessToken=" + "x" * 300
        rates = interleaved(
            _ROUNDS,
            {
                "bare": lambda: requests_per_second(f"{bare.url}/path"),
                "direct": lambda: requests_per_second(plain.url + _PUBLIC),
                "nginx": lambda: requests_per_second(front.url + _PUBLIC),
                "nginx, bare": lambda: requests_per_second(bare_front.url + accel),
                "304": lambda: requests_per_second(plain.url + _PUBLIC, known),
                "cookie": lambda: requests_per_second(plain.url + _PUBLIC, cookie),
                "asked": lambda: requests_per_second(plain.url + _PROTECTED, cookie),
                "remembered": lambda: requests_per_second(remembering.url + _PROTECTED, cookie),
            },
        )
        profile = profile_of_a_download(folder, servers.reference.url)
    unit = "req/s"
    rows = [
        ratio("20 KB, over a bare ASGI app", 0.75, rates, "direct", "bare", unit),
        ratio("20 KB through nginx and `X-Accel-Redirect`, over direct", 0.9, rates, "nginx", "direct", unit),
        ratio("304, over 200 of 20 KB", 1.3, rates, "304", "direct", unit),
        ratio("protected 20 KB, over unprotected", 0.2, rates, "asked", "direct", unit),
        ratio("protected 20 KB, permission remembered, over unprotected", 0.85, rates, "remembered", "direct", unit),
    ]
    floor = ratio("", 0.9, rates, "nginx, bare", "direct", unit)
    with_cookie = ratio("", 0.85, rates, "cookie", "direct", unit)
    notes = f"""
Small downloads are limited by the Python thread of the worker. A file of this size is read on the event loop and
sent as one message, which costs granian half of its path-send with its threads for opening and reading. So direct
downloads are about as fast as an app that only path-sends, and what is compared with them has to be faster than that.

A protected download brings a cookie: sent for the unprotected file, it alone makes {with_cookie.median:.2f} of the
rate without it (spread {min(with_cookie.values):.2f} – {max(with_cookie.values):.2f}). Besides, one folder more is
looked up, because mods have one each, two cookies are picked out and digested, and the permission is looked for.

Through nginx, each request costs nginx a second request, and both share two cores with the client. An app that does
nothing but answer with `X-Accel-Redirect` reaches {floor.median:.2f} of direct downloads through the same nginx
({statistics.median(rates["nginx, bare"]):,.0f} req/s, spread {min(floor.values):.2f} – {max(floor.values):.2f}):
but for noise, no app behind it can do better.
A Unix socket in between and a second nginx worker made no difference that stood out of the noise. `open_file_cache`
would save nginx three calls, but give out bytes of a replaced file with the headers of the new one.

{profile}
"""
    return Findings("Small files", rows, notes)
