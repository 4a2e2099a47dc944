"""Hostile names, against what the file system itself says of them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from open_workshop_storage.utils.files.paths import PathEscapes, PathUnusable, find_inside, resolve_inside
from tests.support.services import Services

SECRET = b"this is outside of every folder that clients may read"

PARTS = st.sampled_from(
    ["..", ".", "", "a", "b", "file", "in", "out", "up", "loop", "outside", "secret", "…", "\0", " "]
)
FORMS = st.sampled_from(["%s", "%%2e%s", "%s%%00", "\\%s", "%s.zip", "..%s", "%s%%2f..", "x" * 200 + "%s"])
NAMES = st.lists(PARTS | st.builds(lambda form, part: form % part, FORMS, PARTS), max_size=8).flatmap(
    lambda parts: st.sampled_from(["/", "//", "\\", "%2f", "%5c", "%252f"]).map(lambda separator: separator.join(parts))
)
ESCAPED = {"/": "%2f", ".": "%2e", "\\": "%5c", "%": "%25"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with files, links that stay inside, and links that lead out of it."""
    root = tmp_path_factory.mktemp("paths")
    inside = root / "inside"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "a" / "file").write_text("here")
    (inside / "in").symlink_to("a")
    (inside / "out").symlink_to(root)
    (inside / "a" / "up").symlink_to("../..")
    (inside / "loop").symlink_to("loop")
    (root / "secret").write_bytes(SECRET)
    (root / "outside").mkdir()
    return os.path.realpath(inside)


@example(name="out/secret")
@example(name="in/up/secret")
@given(name=NAMES)
def test_what_a_name_resolves_to_is_inside_and_what_the_system_makes_of_it(folder: str, name: str) -> None:
    try:
        found = resolve_inside(folder, name)
    except (PathEscapes, PathUnusable):
        return
    assert found == os.path.realpath(os.path.join(folder, name))
    assert os.path.commonpath([found, folder]) == folder and found != folder


@given(name=NAMES)
def test_the_quick_look_up_finds_what_the_slow_one_finds(folder: str, name: str) -> None:
    def outcome(slowly: bool) -> object:
        try:
            if slowly:
                path = resolve_inside(folder, name)
                return path, os.stat(path).st_ino
            quick, status = find_inside(folder, name)
            return quick, status.st_ino
        except (PathEscapes, PathUnusable, OSError) as error:
            return str(type(error))

    assert outcome(slowly=False) == outcome(slowly=True)


@pytest.fixture(scope="module")
def with_links(unshaken: Services) -> Services:
    """A distributor whose storage root holds links that lead out of it, beside a secret."""
    root = unshaken.main_dir
    (root.parent / "secret").write_bytes(SECRET)
    unshaken.stored("resource/fuzz/a/file", b"here")
    for link, target in {"out": str(root.parent), "up": "../../..", "loop": "loop", "in": "a"}.items():
        (root / "resource" / "fuzz" / link).symlink_to(target)
    return unshaken


@pytest.mark.parametrize("services", ["memory"], indirect=True)
@example(name="out/secret", escape=set())
@example(name="in/../up/secret", escape={"/"})
@given(name=NAMES, escape=st.sets(st.sampled_from(sorted(ESCAPED))))
def test_no_target_on_a_socket_brings_out_what_is_outside(with_links: Services, name: str, escape: set[str]) -> None:
    text = "".join(ESCAPED[letter] if letter in escape else letter for letter in name)
    target = f"/download/resource/fuzz/{text}".replace(" ", "%20").replace("\0", "%00").encode()
    url = httpx.URL(with_links.distributor)
    with socket.create_connection((url.host, url.port), timeout=60) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: storage\r\nConnection: close\r\n\r\n")
        answer = b""
        while block := connection.recv(65536):
            answer += block
    status = int(answer.split(b" ", 2)[1])
    assert SECRET not in answer and status in (200, 400, 404, 423)
    assert status != 200 or answer.endswith(b"here")


def test_the_secret_is_where_the_links_lead(folder: str) -> None:
    """Else the tests above could not fail."""
    assert (
        (Path(folder) / "out" / "secret").read_bytes() == (Path(folder) / "a" / "up" / "secret").read_bytes() == SECRET
    )
