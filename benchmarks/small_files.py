"""Requests per second for files of 20 KB, beside a bare ASGI app."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import httpx

from benchmarks.download_profile import profile_of_a_download
from benchmarks.load import cpu_seconds, requests_per_second
from benchmarks.report import Findings, Row, interleaved, ratio
from benchmarks.stage import stage
from tests.support.nginx import PREFIX

_BYTES = 20_000
_ROUNDS = 15
_TTL_SECONDS = 5
_PUBLIC = "/download/resource/small/7.webp"
_PROTECTED = "/download/archive/mods/7/main.zip"


def measure(folder: Path) -> Findings:
    """Compare ways to answer for one small file, over 32 keep-alive connections."""
    with stage(folder) as servers:
        small = servers.stored("resource/small/7.webp", _BYTES)
        (servers.root / "archive" / "mods" / "7").mkdir()
        shutil.copy(small, servers.root / "archive" / "mods" / "7" / "main.zip")
        bare, plain = servers.bare(small), servers.distributor()
        remembering = servers.distributor(ACCESS_CACHE_TTL_SECONDS=_TTL_SECONDS)
        behind = servers.distributor(ACCEL_REDIRECT_PREFIX=PREFIX, ACCESS_CACHE_TTL_SECONDS=_TTL_SECONDS)
        site, bare_site = servers.front(behind), servers.front(bare)
        accel = f"/download/accel{PREFIX}/{small.relative_to(servers.root)}"
        known = f"If-None-Match: {httpx.head(plain.url + _PUBLIC).headers['etag']}"
        cookie = "Cookie: accessToken=" + "x" * 300
        of_python: list[float] = []

        def public_through_the_site() -> float:
            before = cpu_seconds([behind])
            rate = requests_per_second(site.url + _PUBLIC)
            of_python.append(cpu_seconds([behind]) - before)
            return rate

        rates = interleaved(
            _ROUNDS,
            {
                "bare": lambda: requests_per_second(f"{bare.url}/path"),
                "read": lambda: requests_per_second(f"{bare.url}/read"),
                "direct": lambda: requests_per_second(plain.url + _PUBLIC),
                "304": lambda: requests_per_second(plain.url + _PUBLIC, known),
                "cookie": lambda: requests_per_second(plain.url + _PUBLIC, cookie),
                "asked": lambda: requests_per_second(plain.url + _PROTECTED, cookie),
                "remembered": lambda: requests_per_second(remembering.url + _PROTECTED, cookie),
                "nginx": lambda: requests_per_second(servers.reference.url + _PUBLIC),
                "nginx, no links": lambda: requests_per_second(
                    f"{servers.reference.url}/unlinked/resource/small/7.webp"
                ),
                "site": public_through_the_site,
                "site, protected": lambda: requests_per_second(site.url + _PROTECTED, cookie),
                "site, bare": lambda: requests_per_second(bare_site.url + accel, cookie),
            },
        )
        profile = profile_of_a_download(folder, servers.reference.url)
    unit = "req/s"
    protected = "20 KB protected, permission remembered, through the site"
    rows = [
        ratio("20 KB, over a bare ASGI app", 0.95, rates, "direct", "bare", unit),
        ratio("the same, over an app that opens and reads the file itself", 0.95, rates, "direct", "read", unit),
        ratio("304, over 200 of 20 KB", 1.3, rates, "304", "direct", unit),
        ratio("protected 20 KB, over unprotected", 0.2, rates, "asked", "direct", unit),
        ratio("protected 20 KB, permission remembered, over unprotected", 0.92, rates, "remembered", "direct", unit),
        ratio("20 KB public file through the site, over nginx alone", 0.9, rates, "site", "nginx", unit),
        Row("the same: Python's CPU seconds in each second", 0.01, of_python, at_most=True),
        ratio(f"{protected}, over nginx alone", 0.12, rates, "site, protected", "nginx", unit),
        ratio("the same, over an app that only answers the header", 0.95, rates, "site, protected", "site, bare", unit),
    ]
    read = ratio("", 0.95, rates, "read", "bare", unit)
    with_cookie = ratio("", 0.92, rates, "cookie", "direct", unit)
    floor = ratio("", 0.12, rates, "site, bare", "nginx", unit)
    unlinked = ratio("", 0.9, rates, "nginx, no links", "nginx", unit)
    notes = f"""
Small downloads are limited by the Python thread of the worker. A file of this size is read on the event loop and
sent as one message. An app that takes the same steps to the bytes and decides nothing (it opens the file by a path
without links, asks for its size, reads and closes it) reaches {read.median:.2f} of the bare one
(spread {min(read.values):.2f} – {max(read.values):.2f}), which has granian's threads open and read: that is the floor.
What direct downloads fall short of it is Python: two layers of the framework, what the client asks for, the answer
that is remembered, and the file that is compared with what it was, as listed below.

A protected download brings a cookie: sent for the unprotected file, it alone makes {with_cookie.median:.2f} of the
rate without it (spread {min(with_cookie.values):.2f} – {max(with_cookie.values):.2f}). Besides,
the cookies are digested, and the permission is looked for.

The site sends public files without Python. What it does more than nginx alone is to judge the request, to open each
folder of the path by itself, so that no link is followed, and to send 500 bytes more of headers. nginx that only opens
each folder by itself reaches {unlinked.median:.2f} of nginx alone
(spread {min(unlinked.values):.2f} – {max(unlinked.values):.2f}).
`open_file_cache` would save more than all of that, but give out a replaced file for up to a second.

For a protected file nginx asks the distributor, and obeys its `X-Accel-Redirect`. An app that does nothing but answer
with that header reaches {floor.median:.2f} of nginx alone ({statistics.median(rates["site, bare"]):,.0f} req/s,
spread {min(floor.values):.2f} – {max(floor.values):.2f}): no app behind it can do better. With `auth_request` the
distributor would be asked as often, but its refusals would lose their words.

{profile}
"""
    return Findings("Small files", rows, notes)
