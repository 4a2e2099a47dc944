"""Log lines, as the services print them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest

from open_workshop_storage.observability.logs import configure_logging, job_log
from tests.conftest import ServiceStarter
from tests.support.archives import SMALL_MOD, seven_zip_of
from tests.support.client import upload, watching
from tests.support.servers import PROJECT

pytestmark = pytest.mark.anyio

JOB = "job-of-the-test"
NAME = "open_workshop_storage.test"
ACCESS_LOG_FORMAT = "%(path)s %(protocol)s %(query_string)s %(header{authorization})s %(header{cookie})s"


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of the package; what `configure_logging` changes is put back."""
    root, package = logging.getLogger(), logging.getLogger("open_workshop_storage")
    handlers, level = list(root.handlers), package.level
    yield logging.getLogger(NAME)
    root.handlers[:] = handlers
    package.setLevel(level)


def test_a_line_for_people_has_time_level_process_and_job(
    log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("text")
    configure_logging("text")
    log.debug("not shown")
    job_log(log, JOB).info("moved to %s", "archive/mods/7/main.zip")
    log.warning("Redis is away")
    first, second = capsys.readouterr().err.splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(rf"{stamp} INFO \d+ job {JOB}: moved to archive/mods/7/main\.zip", first)
    assert re.fullmatch(rf"{stamp} WARNING \d+ Redis is away", second)


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_event_is_one_line_whatever_is_in_it(
    form: str, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("json" if form == "json" else "text")
    forged = "a\nb\r\u2028c\x1b[31m\udc80"
    job_log(log, JOB).info("moved to %s", forged)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        job_log(log, JOB).exception("failed")
    first, second = capsys.readouterr().err.splitlines()
    assert "\x1b" not in first and JOB in first and JOB in second
    assert "ValueError: two" in second and "test_logs.py" in second
    if form == "json":
        assert json.loads(first)["message"] == f"moved to {forged}"


def test_a_line_for_programs_is_an_object(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    job_log(log, JOB).error("given up")
    fields = json.loads(capsys.readouterr().err)
    assert datetime.fromisoformat(fields.pop("time")).utcoffset() is not None
    assert fields.pop("process") > 0
    assert fields == {"level": "ERROR", "logger": NAME, "job_id": JOB, "message": "given up"}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("GET /transfer/start?token=e.y.J HTTP", "GET /transfer/start?token=... HTTP"),
        ("a=1&token=e.y.J&size=7", "a=1&token=...&size=7"),
        ("to%6ben=e.y.J", "to%6ben=..."),
        ('"accessToken="e.y.J"; theme=dark; refreshToken=e.y.K"', '"accessToken=..."; theme=dark; refreshToken=..."'),
        ("'bearer e.y.J' 200", "'bearer ... 200"),
        # Anyone can send lines as long as this, so they must be read in one go.
        (f"{'a' * 60_000}&token=e.y.J", f"{'a' * 60_000}&token=..."),
        ("https://pages.example/upload?token=e.y.J#top", "https://pages.example/upload?token=..."),
    ],
    ids=["query", "parameters", "encoded", "cookies", "bearer", "long", "referer"],
)
@pytest.mark.usefixtures("log")
def test_no_line_of_the_server_names_a_token(line: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    server, handler = logging.getLogger("granian.access"), logging.StreamHandler()
    server.addHandler(handler)
    try:
        configure_logging("json")
        server.warning("%(query_string)s", {"query_string": line})
    finally:
        server.removeHandler(handler)
    assert json.loads(capsys.readouterr().err.splitlines()[0])["message"] == shown


@pytest.mark.parametrize("form", ["text", "json"])
async def test_one_grep_shows_a_transfer_and_no_line_holds_a_token(
    form: str, redis_url: str, start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    environment = {"GRANIAN_LOG_ACCESS_ENABLED": "true", "GRANIAN_LOG_ACCESS_FMT": ACCESS_LOG_FORMAT}
    if form == "json":
        environment["GRANIAN_LOG_CONFIG"] = str(PROJECT / "deploy" / "json-log.json")
    services = start_services(redis_url, ["loader"], environment, redis_workers=1, LOG_FORMAT=form)
    ticket = services.ticket()
    async with watching(services.loader, ticket.job_id, ticket.token) as watcher:
        answer = await upload(http, services.loader, ticket.token, seven_zip_of(SMALL_MOD))
        assert answer.status_code == 200
        await watcher.finish()
    secret_headers = {"Authorization": f"Bearer {ticket.token}", "Cookie": f"accessToken={ticket.token}"}
    await http.get(f"{services.loader}/transfer/start", params={"token": ticket.token}, headers=secret_headers)
    server = services.servers["loader"]
    await asyncio.to_thread(server.stop)
    output = server.output()
    lines = [line for line in output.splitlines() if ticket.job_id in line]
    if form == "json":
        # The server's own lines are, too.
        assert {"_granian", "granian.access", "open_workshop_storage.services.transfers.job_run"} <= {
            json.loads(line)["logger"] for line in output.splitlines()
        }
        texts = [fields["message"] for line in lines if "job_id" in (fields := json.loads(line))]
    else:
        texts = [text for line in lines if (text := line.partition(f" job {ticket.job_id}: ")[2])]
    assert [text.split()[0].rstrip(",") for text in texts] == [
        *("uploading", "uploaded", "extracting", "repacking", "packed", "moved", "callback")
    ]
    # The access log is on, and shows all that was asked for but tokens.
    for path in (f"/transfer/ws/{ticket.job_id}", "/transfer/upload", "/transfer/start", "/transfer/move"):
        assert f"{path} HTTP" in output
    assert "token=...&filename=mod.zip" in output and "Bearer ... accessToken=..." in output
    for secret in (ticket.token, *vars(services.secrets).values()):
        assert secret not in output
