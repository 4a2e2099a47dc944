"""The files of the console's page, and what they may do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from open_workshop_storage.api.routes.console import router
from tests.support.configs import Secrets
from tests.support.in_process import make_settings, serving
from tests.support.servers import PROJECT

pytestmark = pytest.mark.anyio

FILES = {path.name: path for path in (PROJECT / "src" / "open_workshop_storage" / "console").iterdir()}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(router, make_settings(tmp_path, Secrets(), console_enabled=True)) as (_, client):
        yield client


async def test_the_page_may_load_nothing_but_its_own_files(client: httpx.AsyncClient) -> None:
    answer = await client.get("/loader/console")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(maxsplit=1) for part in answer.headers["content-security-policy"].split("; "))
    sources = {policy.pop(name) for name in ("script-src", "style-src", "img-src", "connect-src")}
    assert sources == {"'self'"}
    nothing = {"default-src", "base-uri", "form-action", "frame-ancestors", "trusted-types"}
    assert {name for name, value in policy.items() if value == "'none'"} == nothing
    assert "http:" not in answer.text and "https:" not in answer.text


async def test_each_file_that_the_page_loads_is_there_and_of_its_type(client: httpx.AsyncClient) -> None:
    types = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
    loaded = set(re.findall(r'console/([\w.-]+)"', FILES["index.html"].read_text()))
    for script in FILES.values():
        loaded |= set(re.findall(r'from "\./([\w.-]+)"', script.read_text()))
    assert loaded | {"index.html"} == FILES.keys()
    for name in loaded:
        for method in ("GET", "HEAD"):
            answer = await client.request(method, f"/loader/console/{name}")
            assert (answer.status_code, answer.headers["content-type"]) == (200, types[name.rpartition(".")[2]]), name
        assert (await client.get(f"/loader/console/{name}")).content == FILES[name].read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        *("none.js", "..%2F__init__.py", "..%2Fconsole%2Fpage.js", ".js", "page.py", "%00.js"),
        pytest.param("a" * 300 + ".js", id="longer than a file system takes"),
    ],
)
async def test_there_is_no_other_file(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/loader/console/{name}")).status_code == 404


async def test_without_the_setting_there_is_no_console(tmp_path: Path) -> None:
    async with serving(router, make_settings(tmp_path, Secrets())) as (_, client):
        for path in ("console", "console/console.js", "status"):
            answer = await client.get(f"/loader/{path}")
            assert (answer.status_code, answer.text) == (404, "Not Found")
