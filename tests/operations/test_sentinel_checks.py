"""What the doctor finds in sentinels, and in the data servers that they lead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from open_workshop_storage.services.operations.findings import Finding, Verdict
from open_workshop_storage.services.operations.redis_checks import examine_redis
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.sentinel import NAME, Access, SentinelRedis
from tests.support.servers import PROJECT, free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def findings(root: Path, url: str) -> list[Finding]:
    """Return what the doctor finds in a Redis of this URL."""
    return await examine_redis(make_settings(root / "storage", Secrets(), redis_url=url))


async def test_what_is_as_it_should_be_is_said_of_each_server(tmp_path: Path, stack: ExitStack) -> None:
    servers = SentinelRedis(tmp_path, stack)
    primary, replica = servers.ports
    assert await findings(tmp_path, servers.url) == [
        (Verdict.OK, "Sentinel", f"3 answer, and name the primary 127.0.0.1:{primary}"),
        (Verdict.OK, "Redis", "writes each change to its disk"),
        (Verdict.OK, f"replica 127.0.0.1:{replica}", "writes each change to its disk"),
    ]


async def test_what_may_lose_jobs_is_named_on_the_server_that_may(tmp_path: Path, stack: ExitStack) -> None:
    servers = SentinelRedis(tmp_path, stack, replicas=2)
    primary, *replicas = servers.ports
    with servers.data(replicas[0]) as data:
        data.config_set("maxmemory", 10**9)
        data.config_set("maxmemory-policy", "allkeys-lru")
        data.config_set("appendonly", "no")
    said = {(subject, text.split(";")[-1].strip()) for _, subject, text in await findings(tmp_path, servers.url)}
    assert said >= {
        (f"replica 127.0.0.1:{replicas[0]}", "set `maxmemory-policy noeviction`"),
        (f"replica 127.0.0.1:{replicas[0]}", "set `appendonly yes`"),
        (f"replica 127.0.0.1:{replicas[1]}", "writes each change to its disk"),
        ("Redis", "set `min-replicas-to-write 1`"),
    }
    with servers.data(primary) as data:
        data.config_set("min-replicas-to-write", 1)
    assert (Verdict.OK, "Redis", "writes each change to its disk") in await findings(tmp_path, servers.url)


async def test_a_primary_without_the_replica_that_it_needs_is_named(tmp_path: Path, stack: ExitStack) -> None:
    servers = SentinelRedis(tmp_path, stack)
    primary, replica = servers.ports
    with servers.data(primary) as data:
        data.config_set("min-replicas-to-write", 1)
        told = [text for _, subject, text in await findings(tmp_path, servers.url) if subject == "Redis"]
        assert ["only replica" in text for text in told] == [True]
        servers.kill(replica)
        servers.until_known_as_down(replica)
        found = await findings(tmp_path, servers.url)
        assert (Verdict.WARNING, "Sentinel", f"takes the replica 127.0.0.1:{replica} for down; start it") in found
        refusals = [text for verdict, subject, text in found if (verdict, subject) == (Verdict.FAULT, "Redis")]
        assert refusals and all("without a replica that follows" in text for text in refusals)
        data.config_set("min-replicas-to-write", 0)
    assert "has no replica that follows it" in str(await findings(tmp_path, servers.url))


async def test_sentinels_that_cannot_do_their_work_are_named(tmp_path: Path, stack: ExitStack) -> None:
    servers = SentinelRedis(tmp_path, stack)
    first, second, third = servers.sentinels
    other = servers.url.replace(f"/{NAME}/", "/other/")
    assert f"127.0.0.1:{first} knows no primary of this name" in str(await findings(tmp_path, other))
    for sentinel in (second, third):
        servers.kill(sentinel)
        servers.until_known_as_down(sentinel)
    found = await findings(tmp_path, servers.url)
    assert f"127.0.0.1:{second} does not answer" in str(found)
    assert [verdict for verdict, _, text in found if "NOQUORUM" in text] == [Verdict.FAULT]


async def test_sentinels_that_are_away_are_named_and_no_more_is_asked(tmp_path: Path) -> None:
    port = free_port()
    *away, none = await findings(tmp_path, f"redis+sentinel://127.0.0.1:{port}/{NAME}")
    assert [text.split(" (")[0] for _, _, text in away] == [f"127.0.0.1:{port} does not answer"]
    assert none.verdict is Verdict.FAULT and "names no primary" in none.text


async def test_the_documented_rights_at_sentinels_are_enough_and_a_wrong_password_is_named(
    tmp_path: Path, stack: ExitStack
) -> None:
    (user,) = re.findall("^user open-workshop .+", (PROJECT / "docs" / "DEPLOYMENT.md").read_text(), re.MULTILINE)
    access = Access(
        query="?sentinel_username=open-workshop&sentinel_password=PASSWORD",
        sentinels=["requirepass guard", "sentinel sentinel-pass guard", user],
        sentinel_password="guard",
    )
    servers = SentinelRedis(tmp_path, stack, access=access)
    assert {verdict for verdict, _, _ in await findings(tmp_path, servers.url)} == {Verdict.OK}
    refused = await findings(tmp_path, servers.url.replace("PASSWORD", "hush"))
    assert "refuses" in refused[0].text and "hush" not in str(refused)
