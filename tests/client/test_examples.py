"""The examples of docs/CLIENTS.md, run as they stand."""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from open_workshop_storage.client import Downloads
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.client import PATIENCE_SECONDS
from tests.support.servers import HOST, PROJECT, clean_environment, free_port, running
from tests.support.services import Services, running_services

pytestmark = pytest.mark.anyio

DOCUMENT = (PROJECT / "docs" / "CLIENTS.md").read_text()
MANAGER = PROJECT / "docs" / "examples" / "manager.py"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, str]]:
    """A loader, and the example Manager that it reports to."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    folder = tmp_path_factory.mktemp("installation")
    with running_services(folder, apps=["loader"], MANAGER_URL=url) as services, manager_of(services, port, folder):
        yield services, url


@contextmanager
def manager_of(services: Services, port: int, folder: Path) -> Iterator[None]:
    """Run the example Manager until the block ends."""
    url = f"http://{HOST}:{port}"
    variables = {
        "STORAGE_URL": services.loader,
        "TRANSFER_JWT_SECRET": services.secrets.jwt_secret,
        "STORAGE_MANAGE_TOKEN": services.secrets.storage_manage_token,
        "PYTHONPATH": str(PROJECT / "src"),
    }
    (started,) = re.findall(r"^    granian (.*)$", MANAGER.read_text(), re.MULTILINE)
    command = [str(Path(sys.executable).with_name("granian")), *started.replace("9000", str(port)).split()]

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/uploads/none", timeout=1).is_success
        except httpx.TransportError:
            return False

    with running("manager", command, folder, clean_environment() | variables, port, answers):
        yield


async def test_the_example_manager_allows_an_upload_and_has_its_file_stored(
    installation: tuple[Services, str], http: httpx.AsyncClient
) -> None:
    services, manager = installation
    allowed = (await http.post(f"{manager}/mods/7/uploads")).json()

    async def heard(state: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await http.get(f"{manager}/uploads/{allowed['job_id']}")).json() != state:
                await asyncio.sleep(0.05)

    await heard("expected")
    broken = await http.post(allowed["link"], content=zip_of(SMALL_MOD)[:-50])
    assert (broken.status_code, broken.text) == (400, "Corrupt archive")
    await heard("corrupt_archive")
    assert (await http.post(allowed["link"], content=zip_of(SMALL_MOD))).status_code == 200
    await heard("stored")
    assert (services.main_dir / "archive/mods/7/main.zip").read_bytes() == zip_of(SMALL_MOD)


async def test_the_example_manager_refuses_callbacks_that_the_storage_did_not_sign(
    installation: tuple[Services, str], http: httpx.AsyncClient
) -> None:
    refused = await http.post(f"{installation[1]}/internal/storage/transfer-completions")
    assert refused.status_code == 403


def test_the_example_manager_is_small() -> None:
    assert len(MANAGER.read_text().splitlines()) <= 80


def example(heading: str) -> dict[str, Any]:
    """Return what the example below a heading defines."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    defined: dict[str, Any] = {}
    exec(code, defined)
    return defined


async def test_the_example_that_sends_a_file_prints_how_far_it_is(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ticket, file = services.ticket(), tmp_path / "mod.7z"
    file.write_bytes(seven_zip_of(SMALL_MOD))
    await example("Sending a file")["send"](file, services.loader, ticket.token)
    assert capsys.readouterr().out.splitlines()[-1] == f"packed {file.stat().st_size} None"
    assert entries_of((services.main_dir / ticket.path).read_bytes()) == SMALL_MOD


async def test_the_example_that_updates_a_mod_fetches_only_what_has_changed(services: Services, tmp_path: Path) -> None:
    update, asked = example("Updating a mod")["update"], list[str]()
    archive = f"archive/{secrets.token_hex(8)}.zip"

    async def note(request: httpx.Request) -> None:
        asked.append(request.url.params.get("entry", ""))

    files = {f"mod/{number} über.bin": secrets.token_bytes(500) + bytes(500) for number in range(20)}

    async def updated() -> list[str]:
        asked.clear()
        await update(downloads, archive, tmp_path)
        first, *entries = asked
        assert first == ""
        return entries

    async with httpx.AsyncClient(event_hooks={"request": [note]}) as http:
        downloads = Downloads(http, services.distributor)
        services.stored(archive, zip_of(files))
        assert len(await updated()) == 20
        files["mod/7 über.bin"] = b"changed"
        del files["mod/8 über.bin"]
        services.stored(archive, zip_of(files))
        (tmp_path / "mod/9 über.bin").write_bytes(b"spoilt")
        assert await updated() == ["mod/7 über.bin", "mod/9 über.bin"]
        assert await updated() == []
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == files
