"""The commands of `open-workshop-storage`, beside running services."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import termios
import time
from contextlib import redirect_stderr, redirect_stdout
from email.utils import formatdate
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest
import redis

from open_workshop_storage.__main__ import main
from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, zip_of
from tests.support.clamd import MARKER, NAME, Clamd
from tests.support.client import upload
from tests.support.configs import Secrets, write_config
from tests.support.manager import Answer
from tests.support.servers import PROJECT, QuietHandler, clean_environment, free_port, http_server, redis_server
from tests.support.services import Services
from tests.support.tus import TusUpload

pytestmark = pytest.mark.anyio


def run(command: str, config: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: a start takes most of a second of a core.

    The commands that docs/DEPLOYMENT.md types are started by tests/e2e/test_commands_of_documents.py.
    """
    printed, complained = StringIO(), StringIO()
    typed = ["open-workshop-storage", command, *arguments]
    variables = clean_environment() | {"OW_CONFIG": str(config)} | environment
    with (
        patch.dict(os.environ, variables, clear=True),
        patch.object(sys, "argv", typed),
        redirect_stdout(printed),
        redirect_stderr(complained),
    ):
        status = main()
    return subprocess.CompletedProcess(typed, status, printed.getvalue(), complained.getvalue())


def config_of(services: Services) -> Path:
    return services.main_dir.parent / "ow_config.py"


def lonely_config(folder: Path, **settings: object) -> Path:
    """Write settings that name no service which answers, and return their file."""
    away = dict.fromkeys(("MANAGER_URL", "ACCESS_SERVICE_URL"), "http://127.0.0.1:9")
    return write_config(folder, {"MAIN_DIR": str(folder), **away, **Secrets().settings(), **settings})


def verdicts(text: str) -> dict[str, str]:
    """Return what the doctor thinks, by subject."""
    return {subject: verdict for verdict, subject in re.findall(r"^(\w+) +(.+?): ", text, re.MULTILINE)}


def test_the_doctor_finds_running_services_well(services: Services) -> None:
    result = run("doctor", config_of(services))
    found = verdicts(result.stdout)
    assert (result.returncode, result.stderr) == (0, "")
    assert {found[name] for name in ("storage", "confinement", "MANAGER_URL", "ACCESS_SERVICE_URL")} == {"ok"}
    # Without the codec for RAR, which is not free.
    assert found["7z"] in {"ok", "warning"}
    # Those of the tests are cheap, and their Redis keeps nothing.
    assert {found[name] for name in ("upload_file", "delete_file", "storage_manage_token", "Redis")} == {"warning"}


def test_the_doctor_and_the_start_name_what_children_are_not_kept_from(tmp_path: Path) -> None:
    config = lonely_config(tmp_path)
    # Landlock can be nested 16 times, so that the next one fails as where the kernel has none.
    script = """if True:
        import asyncio, sys
        from pathlib import Path
        from open_workshop_storage.__main__ import main
        from open_workshop_storage.core.settings import load_settings
        from open_workshop_storage.services.runtime import open_runtime
        from open_workshop_storage.utils.processes.confinement import _restrict_files

        for _ in range(16):
            _restrict_files([Path("/")], [Path("/")])

        async def start():
            async with open_runtime(load_settings(), loads=False):
                pass

        asyncio.run(start())
        sys.argv[1:] = ["doctor"]
        main()
    """
    environment = clean_environment() | {"PYTHONPATH": str(PROJECT / "src"), "OW_CONFIG": str(config)}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "child processes keep access to files (Landlock: " in result.stderr
    assert verdicts(result.stdout)["confinement"] == "warning"


def test_the_doctor_names_servers_that_keep_silent_connections(tmp_path: Path) -> None:
    config = lonely_config(tmp_path)
    # Its command line is all that the doctor sees of a server.
    command = [sys.executable, "-c", "input()", "granian", "--http", "auto", "open_workshop_storage.loader:app"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        printed = run("doctor", config).stdout
        server.communicate(b"\n")
    assert f"warning  granian: process {server.pid} was started without --http 1" in printed


def test_the_doctor_names_every_fault_and_what_to_do(tmp_path: Path) -> None:
    away = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}", "MANAGER_TRANSFER_CALLBACK_URL": "http://127.0.0.1:9/a"}
    config = lonely_config(tmp_path, MAIN_DIR=str(tmp_path / "missing"), **away)
    result = run("doctor", config, PATH=str(tmp_path))
    faults = {subject for subject, verdict in verdicts(result.stdout).items() if verdict == "FAULT"}
    assert result.returncode == 1
    services = {"MANAGER_URL", "ACCESS_SERVICE_URL", "MANAGER_TRANSFER_CALLBACK_URL"}
    assert faults == {"MAIN_DIR", "7z", "Redis", *services}
    for advice in ("make or mount it", "correct REDIS_URL", "p7zip-full"):
        assert advice in result.stdout


def test_the_doctor_warns_of_a_disk_that_is_nearly_full_and_of_weak_secrets_without_their_values(
    tmp_path: Path,
) -> None:
    result = run("doctor", lonely_config(tmp_path, STORAGE_RESERVE_BYTES=10**18, TRANSFER_JWT_SECRET="abc" * 20))
    found = verdicts(result.stdout)
    assert (found["disk"], found["TRANSFER_JWT_SECRET"], found["upload_file"]) == ("FAULT", "warning", "warning")
    assert "abcabc" not in result.stdout


class Ailing(QuietHandler):
    """A proxy whose service is down and whose clock is slow."""

    def do_HEAD(self) -> None:
        self.send_response(502)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() - 3600, usegmt=True)


def test_the_doctor_tells_a_service_that_is_down_behind_its_proxy_and_a_clock_that_is_off(tmp_path: Path) -> None:
    with http_server(Ailing) as url:
        printed = run("doctor", lonely_config(tmp_path, MANAGER_URL=url, ACCESS_SERVICE_URL=url)).stdout
    assert "warning  MANAGER_URL: answers with status 502" in printed
    assert re.search(r"warning  ACCESS_SERVICE_URL: its clock is -36\d\d s off", printed)


def test_the_doctor_tells_why_a_redis_that_answers_will_not_do(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        config = lonely_config(tmp_path, REDIS_URL=server.url)
        # Redis cannot put its file there.
        (tmp_path / "dump.rdb").mkdir()
        client.bgsave()
        while client.info("persistence")["rdb_bgsave_in_progress"]:
            time.sleep(0.01)
        client.replicaof("127.0.0.1", 9)
        printed = run("doctor", config).stdout
        assert "FAULT    Redis: is a replica" in printed
        assert "FAULT    Redis: could not write to its disk" in printed
        client.config_set("requirepass", "of-another")
        assert "FAULT    Redis: refuses" in run("doctor", config).stdout
        result = run("status", config)
        assert (result.returncode, result.stdout) == (1, "") and "Redis cannot be asked" in result.stderr


@pytest.mark.parametrize("command", ["doctor", "status", "digests", "verify", "scan"])
def test_faulty_settings_are_named(command: str, tmp_path: Path) -> None:
    result = run(command, write_config(tmp_path, {"MAIN_DIR": ""}))
    assert (result.returncode, result.stdout) == (1, "")
    assert "MANAGER_URL is missing" in result.stderr and "Traceback" not in result.stderr


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The settings of a store with two files that have no digests."""
    for name in ("a", "b"):
        (tmp_path / "storage" / "resource").mkdir(parents=True, exist_ok=True)
        (tmp_path / "storage" / "resource" / name).write_bytes(b"x" * 100_000)
    return lonely_config(tmp_path, MAIN_DIR=str(tmp_path / "storage"))


def test_the_store_is_given_digests_and_a_file_that_changed_is_named(store: Path, tmp_path: Path) -> None:
    result = run("digests", store)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok       digests: 2 given, 0 known before\n", "")
    assert run("verify", store).returncode == 0
    (tmp_path / "storage" / "resource" / "a").write_bytes(b"x" * 99_999 + b"y")
    result = run("verify", store)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "FAULT    resource/a: is not what it was",
        "ok       digests: 1 as they were, 0 without a digest",
    ]
    (tmp_path / "storage").rename(tmp_path / "away")
    result = run("verify", store)
    assert (result.returncode, result.stdout) == (1, "") and "storage root is missing" in result.stderr


def test_the_store_is_scanned_and_a_file_with_malware_is_named(store: Path, clamd: Clamd, tmp_path: Path) -> None:
    assert "CLAMD_ADDRESS is empty" in run("scan", store).stdout
    with store.open("a") as config:
        config.write(f"CLAMD_ADDRESS = {clamd.local!r}\n")
    result = run("scan", store)
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        "ok       scan: 2 clean, 0 infected, 0 not judged\n",
        "",
    )
    (tmp_path / "storage" / "resource" / "b").write_bytes(MARKER)
    result = run("scan", store)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        f"FAULT    resource/b: malware: {NAME}",
        "ok       scan: 1 clean, 1 infected, 0 not judged",
    ]


def test_a_terminal_is_shown_how_far_it_is(store: Path) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = clean_environment() | {"PYTHONPATH": str(PROJECT / "src"), "OW_CONFIG": str(store)}
    command = [sys.executable, "-m", "open_workshop_storage", "digests"]
    with open(ours, "rb", buffering=0) as terminal:
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
        os.close(theirs)
        shown = b""
        while b"200k/200k" not in shown:
            shown += terminal.read(65536)
    assert b"100%" in shown


async def test_a_transfer_is_cancelled_and_a_callback_delivered_by_command(
    start_services: ServiceStarter, redis_url: str, http: httpx.AsyncClient
) -> None:
    services = start_services(redis_url, apps=["loader"], redis_workers=1)
    config = config_of(services)
    unheard, paused = services.ticket(), services.ticket()
    services.manager.script(unheard.job_id, Answer(status=503, headers={"Retry-After": "600"}, move=False))
    await upload(http, services.loader, unheard.token, zip_of(SMALL_MOD))
    await TusUpload(http, services.loader, paused.token, paused.job_id).create(9)

    shown = json.loads((await asyncio.to_thread(run, "status", config, "--json")).stdout)
    ((jti, job_id),) = ((callback["jti"], callback["job_id"]) for callback in shown["callbacks"])
    assert job_id == unheard.job_id and {job["job_id"] for job in shown["jobs"]} == {unheard.job_id, paused.job_id}
    table = (await asyncio.to_thread(run, "jobs", config)).stdout
    assert paused.job_id in table and "Slots" not in table

    assert (await asyncio.to_thread(run, "redeliver", config, jti)).returncode == 0
    assert len(await asyncio.to_thread(services.manager.wait_for_callbacks, unheard.job_id, 2)) == 2
    assert (await asyncio.to_thread(run, "cancel", config, paused.job_id)).returncode == 0
    (callback,) = await asyncio.to_thread(services.manager.wait_for_callbacks, paused.job_id)
    assert callback.claims["reason"] == "exception"

    for command, argument, refusal in (
        ("redeliver", "no-such-callback", "Callback not found"),
        ("cancel", paused.job_id, "Transfer already ended"),
        ("cancel", "job-of-nobody", "Job not found"),
    ):
        refused = await asyncio.to_thread(run, command, config, argument)
        assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"{refusal}\n")


def test_status_says_where_it_cannot_look(tmp_path: Path, services: Services) -> None:
    if services.store == "memory":
        result = run("status", config_of(services))
        assert (result.returncode, result.stdout) == (1, "") and "process only" in result.stderr
    else:
        result = run("status", config_of(services), REDIS_URL=f"redis://127.0.0.1:{free_port()}")
        assert (result.returncode, result.stdout) == (1, "") and "Redis cannot be asked" in result.stderr
