"""The JavaScript client in Node (clients/js), over a network that cuts connections, and the package that it makes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from random import Random

import pytest

from open_workshop_storage import __version__
from tests.support.archives import SMALL_MOD, entries_of, seven_zip_of, zip_of
from tests.support.proxy import Fault, running_proxy
from tests.support.servers import PROJECT, free_port
from tests.support.services import Services

pytestmark = pytest.mark.anyio

CLIENT = PROJECT / "clients" / "js"
TESTS = Path(__file__).with_name("storage-client.test.mjs")
ENTRIES = SMALL_MOD | {"noise": Random(3).randbytes(6_000_000)}
ARRIVE = ("cut", "paused", "mixed", "empty")


async def test_the_client_in_node(services: Services, tmp_path: Path) -> None:
    tickets = {name: services.ticket() for name in (*ARRIVE, "encrypted", "cancelled", "unsent")}
    tokens = {name: ticket.token for name, ticket in tickets.items()}
    tokens["expired"] = services.ticket(exp=int(time.time()) - 60).token
    mod, encrypted = tmp_path / "mod.zip", tmp_path / "encrypted.zip"
    mod.write_bytes(zip_of(ENTRIES))
    encrypted.write_bytes(seven_zip_of(SMALL_MOD, "-tzip", "-psecret"))
    async with running_proxy(services.servers["loader"].port) as cutting:
        for after_bytes in (700_000, 1_500_000, 300_000):
            cutting.plan(Fault.CUT, after_bytes)
        scene = {
            "loader": services.loader,
            "cutting": f"http://127.0.0.1:{cutting.port}",
            "closed": f"http://127.0.0.1:{free_port()}",
            "tokens": tokens,
            "mod": str(mod),
            "encrypted": str(encrypted),
        }
        process = await asyncio.create_subprocess_exec(
            "node",
            "--test",
            str(TESTS),
            env={**os.environ, "SCENE": json.dumps(scene)},
            stdout=subprocess.PIPE,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    for name in ARRIVE:
        (callback,) = await asyncio.to_thread(services.manager.wait_for_callbacks, tickets[name].job_id)
        assert callback.claims["status"] == "success"
        if name != "empty":
            assert entries_of((services.main_dir / tickets[name].path).read_bytes()) == ENTRIES


def test_the_package_of_the_client_has_its_module_and_types() -> None:
    packed = subprocess.run(
        ["npm", "pack", "--dry-run", "--json"], cwd=CLIENT, capture_output=True, text=True, check=True
    )
    (package,) = json.loads(packed.stdout)
    assert package["version"] == __version__
    files = {file["path"] for file in package["files"]}
    assert files == {"package.json", "README.md", "storage-client.d.ts", "storage-client.js"}
