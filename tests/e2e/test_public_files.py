"""Public files that nginx sends by itself are answered as the distributor answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import product
from pathlib import Path

import pytest

from open_workshop_storage.utils.http.media_types import SAFE_MEDIA_TYPES
from tests.support.digests import give_digest
from tests.support.nginx import nginx, site_for
from tests.support.servers import HOST
from tests.support.services import Services, running_services

CONTENT = bytes(range(250)) * 100
OLD = "Sun, 06 Nov 1994 08:49:37 GMT"
FILES = (
    "resource/small/7.webp",
    "avatar/a.PNG",
    "archive/public/x.zip",
    "archive/mods.zip",
    "archive/modsandmore/x.zip",
    "archive/mods/7/main.zip",
    "resource/noextension",
    "resource/two.dots.txt",
    "resource/v1.2/a.txt",
    "resource/.hidden.txt",
    "resource/dot.",
    "resource/a b+мод.txt",
    "resource/back\\slash.txt",
    "archive/mods/7|/download/resource/small/7.webp",
    f"resource/.ow-{'0' * 32}.part",
)
# How a path is asked for, and whether nginx needs no one to answer.
TARGETS: Mapping[str, bool] = {
    "resource/small/7.webp": True,
    "avatar/a.PNG": True,
    "archive/public/x.zip": True,
    "archive/mods.zip": True,
    "archive/modsandmore/x.zip": True,
    "resource/empty.webp": True,
    "resource/small/7.webp?filename=My-file_1": True,
    "archive/public/x.zip?filename=0": True,
    "resource/small/7.webp?v=17": True,
    "resource/small/7.webp?filename=": False,
    "resource/small/7.webp?filename=bad!name": False,
    "resource/small/7.webp?filename=%61": False,
    "resource/small/7.webp?filename=a&filename=b": False,
    "resource/small/7.webp?v=1&filename=b": False,
    "resource/small/7.webp?FILENAME=b": True,
    "resource/small/7.webp?": False,
    "archive/mods/7/main.zip": False,
    "archive/mods/7/main.zip?filename=a": False,
    "archive/%6dods/7/main.zip": False,
    "archive//mods/7/main.zip": False,
    "archive/./mods/7/main.zip": False,
    "archive/public/../mods/7/main.zip": False,
    "archive/mods/none.zip": False,
    "archive/linked/7/main.zip": False,
    "resource/link.webp": False,
    "resource/folder-link/7.webp": False,
    "resource/outside.webp": False,
    "resource/noextension": False,
    "resource/two.dots.txt": False,
    "resource/v1.2/a.txt": False,
    "resource/.hidden.txt": False,
    "resource/dot.": False,
    "resource/a%20b+%D0%BC%D0%BE%D0%B4.txt": False,
    "resource/back\\slash.txt": True,
    f"resource/.ow-{'0' * 32}.part": False,
    "resource/small": False,
    "resource/small/": False,
    "resource/missing.webp": False,
    "resource/small/7.webp/a.webp": False,
    f"resource/{'x' * 300}.webp": False,
    "resource/small/../small/7.webp": False,
    "resource/../avatar/a.PNG": False,
    "resource/%2e%2e/avatar/a.PNG": False,
    "resource/small%2F7.webp": False,
    "resource/small/%37.webp": False,
    "resource//small/7.webp": False,
    "other/7.webp": False,
    "resource": False,
}
# Headers of requests, `{etag}` and `{date}` being those of the file, and whether nginx needs no one to judge them.
HEADERS: Sequence[tuple[Mapping[str, str], bool]] = (
    ({}, True),
    ({"If-None-Match": "{etag}"}, True),
    ({"If-Modified-Since": "{date}"}, True),
    ({"Range": "bytes=5-9"}, False),
)
MORE_HEADERS: Sequence[tuple[Mapping[str, str], bool]] = (
    ({"Accept-Encoding": "gzip, br", "Cookie": "a=b", "Origin": "https://pages.example"}, True),
    ({"If-None-Match": "W/{etag}"}, True),
    ({"If-None-Match": '"another"'}, True),
    ({"If-None-Match": "*"}, False),
    ({"If-None-Match": '"another", {etag}'}, False),
    ({"If-None-Match": "nonsense"}, False),
    ({"If-None-Match": "{etag}", "If-Modified-Since": OLD}, False),
    ({"If-None-Match": '"another"', "If-Modified-Since": "{date}"}, False),
    ({"If-Modified-Since": OLD}, True),
    ({"If-Modified-Since": "Fri, 31 Dec 2100 23:59:59 GMT"}, True),
    ({"If-Modified-Since": "Fri, 31 Feb 2100 23:59:59 GMT"}, True),
    ({"If-Modified-Since": "Sunday, 06-Nov-94 08:49:37 GMT"}, False),
    ({"If-Modified-Since": "nonsense"}, False),
    ({"If-Modified-Since": "|/download/archive/mods/7"}, False),
    ({"If-Match": "{etag}"}, False),
    ({"If-Match": '"another"'}, False),
    ({"If-Unmodified-Since": "{date}"}, False),
    ({"If-Unmodified-Since": OLD}, False),
    ({"Range": "bytes=0-"}, False),
    ({"Range": "bytes=-7"}, False),
    ({"Range": "bytes=5-4"}, False),
    ({"Range": "bytes=99999-"}, False),
    ({"Range": "bytes=0-1, 5-9"}, False),
    ({"Range": "items=0-1"}, False),
    ({"Range": "bytes=0-9", "If-Range": "{etag}"}, False),
    ({"Range": "bytes=0-9", "If-Range": '"another"'}, False),
    ({"Range": "bytes=0-9", "If-Range": "{date}"}, False),
    ({"Want-Repr-Digest": "sha-256=5"}, False),
    ({"Content-Length": "0"}, True),
    ({"Content-Length": "3"}, True),
)


@dataclass
class Answer:
    """An answer without what is each server's own.

    Attributes:
        is_of_nginx: Whether nginx has made it by itself.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    is_of_nginx: bool = field(compare=False)


@dataclass
class Ways:
    """Both ways to the same files.

    Attributes:
        nginx: The port of nginx, which sends public files by itself.
        distributor: That of the distributor behind it.
    """

    nginx: int
    distributor: int
    services: Services

    def differences(self, method: str, target: str, headers: Mapping[str, str], plain: bool) -> list[str]:
        """Ask both ways; return what is wrong with the answers."""
        asked = f"{method} {target[:80]} {headers}"
        expected, got = (answer_of(port, method, target, headers) for port in (self.distributor, self.nginx))
        wrong = [] if got == expected else [f"{asked}:\n  {expected}\n  {got}"]
        if got.is_of_nginx != (plain and method == "GET"):
            wrong.append(f"{asked}: sent by {'nginx' if got.is_of_nginx else 'the distributor'}")
        return wrong


def answer_of(port: int, method: str, target: str, headers: Mapping[str, str]) -> Answer:
    """Ask for a target as it stands, over a connection of its own: servers close those that are idle."""
    with closing(HTTPConnection(HOST, port, timeout=60)) as connection:
        connection.putrequest(method, f"/download/{target}", skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(b"abc"[: int(headers.get("Content-Length", 0))])
        answer = connection.getresponse()
        body = answer.read()
    kept = [
        (name.lower(), value)
        for name, value in answer.getheaders()
        if name.lower() not in ("date", "server", "connection")
    ]
    # Chosen anew for each answer in several parts.
    boundary = re.search(r"boundary=(\w+)", answer.getheader("content-type", ""))
    if boundary is not None:
        kept = [(name, value.replace(boundary[1], "-")) for name, value in kept]
        body = body.replace(boundary[1].encode(), b"-")
    # The distributor writes names in lower case.
    return Answer(answer.status, sorted(kept), body, any(name == "X-Content-Type-Options" for name in answer.headers))


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    folder = tmp_path_factory.mktemp("public")
    with running_services(folder, apps=("distributor",)) as services:
        for name in FILES:
            services.stored(name, CONTENT)
        services.stored("resource/empty.webp", b"")
        resource = services.main_dir / "resource"
        (resource / "link.webp").symlink_to("small/7.webp")
        (resource / "folder-link").symlink_to("small")
        (resource / "outside.webp").symlink_to("/etc/hostname")
        (services.main_dir / "archive/linked").symlink_to("mods")
        (services.main_dir / "avatar").rename(services.main_dir / "disk2")
        (services.main_dir / "avatar").symlink_to("disk2")
        port = services.servers["distributor"].port
        with nginx(folder, site_for(services.main_dir), port) as front:
            yield Ways(front.port, port, services)


def test_both_ways_give_the_same_answers(ways: Ways) -> None:
    cases = [
        *product(("GET", "HEAD"), TARGETS, HEADERS),
        *product(("GET", "HEAD"), ("resource/small/7.webp", "resource/empty.webp"), MORE_HEADERS),
        *product(("POST", "OPTIONS", "DELETE"), ("resource/small/7.webp", "resource/missing.webp"), HEADERS),
    ]
    validators = {}
    for target in TARGETS:
        known = dict(answer_of(ways.distributor, "HEAD", target, {}).headers)
        validators[target] = known.get("etag", '"0"'), known.get("last-modified", OLD)
    wrong = []
    for method, target, (headers, is_plain) in cases:
        etag, date = validators.get(target, ('"0"', OLD))
        filled = {name: value.format(etag=etag, date=date) for name, value in headers.items()}
        is_named = "?filename=" in target and ("If-None-Match" in headers or "If-Modified-Since" in headers)
        wrong += ways.differences(method, target, filled, TARGETS[target] and is_plain and not is_named)
    assert len(cases) >= 500 and not wrong, "\n".join(wrong)


@pytest.mark.parametrize("storage_type", ["resource", "archive"])
def test_each_type_of_file_is_told_alike(ways: Ways, storage_type: str) -> None:
    wrong = []
    for extension in (*SAFE_MEDIA_TYPES, ".svg", ".html", ".JPG", ".unknown"):
        target = f"{storage_type}/types/file{extension}"
        ways.services.stored(target, CONTENT)
        for query in ("", "?filename=saved"):
            wrong += ways.differences("GET", target + query, {}, plain=True)
    assert not wrong, "\n".join(wrong)


def test_a_digest_is_told_to_clients_that_want_it_and_with_head(ways: Ways) -> None:
    target = "resource/known.webp"
    told = ("repr-digest", give_digest(ways.services.stored(target, CONTENT)))
    for method, headers in (("HEAD", {}), ("GET", {"Range": "bytes=0-9"}), ("GET", {"Want-Repr-Digest": "sha-256=1"})):
        assert not ways.differences(method, target, headers, plain=False)
        assert told in answer_of(ways.nginx, method, target, headers).headers
    whole, by_nginx = (answer_of(port, "GET", target, {}) for port in (ways.distributor, ways.nginx))
    assert sorted([*by_nginx.headers, told]) == whole.headers and by_nginx.body == whole.body == CONTENT


def test_a_replaced_file_is_another_one_at_once(ways: Ways, tmp_path: Path) -> None:
    target = "resource/replaced.webp"
    for number in range(3):
        ways.services.stored(target + ".new", b"%d" % number * 1000).rename(ways.services.main_dir / target)
        assert not ways.differences("GET", target, {}, plain=True)
        assert answer_of(ways.nginx, "GET", target, {}).body == b"%d" % number * 1000
