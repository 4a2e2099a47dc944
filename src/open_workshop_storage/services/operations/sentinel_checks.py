"""The doctor's checks of sentinels: do they answer, agree, and have what a failover needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from open_workshop_storage.services.operations.findings import Finding, fault, ok, reason_of, warning
from open_workshop_storage.stores.redis_client import usual_options
from open_workshop_storage.stores.redis_sentinel import sentinel_clients
from open_workshop_storage.utils.net.redis_urls import SentinelUrl

_LEAST_SENTINELS = 3


@dataclass(frozen=True)
class SentinelReport:
    """What one sentinel, or all of them together, have told.

    Attributes:
        primaries: Host and port of the primary, if one is up; of several, if sentinels differ.
        replicas: Host and port of those that are up.
    """

    findings: Sequence[Finding]
    primaries: frozenset[tuple[str, int]] = frozenset()
    replicas: frozenset[tuple[str, int]] = frozenset()


async def examine_sentinels(url: SentinelUrl) -> SentinelReport:
    """Ask all sentinels that the URL names."""
    clients = sentinel_clients(url, usual_options())
    reports = await asyncio.gather(*(_examine(client, url.primary) for client in clients))
    # What they all say is said once.
    findings = list(dict.fromkeys(finding for report in reports for finding in report.findings))
    primaries = frozenset[tuple[str, int]]().union(*(report.primaries for report in reports))
    replicas = frozenset[tuple[str, int]]().union(*(report.replicas for report in reports))
    names = ", ".join(f"{host}:{port}" for host, port in sorted(primaries))
    if not primaries:
        findings.append(fault("Sentinel", "names no primary that is up; the services wait until one does"))
    elif len(primaries) > 1:
        findings.append(warning("Sentinel", f"names different primaries: {names}; see why the sentinels differ"))
    elif not findings:
        findings.append(ok("Sentinel", f"{len(reports)} answer, and name the primary {names}"))
    return SentinelReport(findings, primaries, replicas)


async def _examine(client: Redis, name: str) -> SentinelReport:
    """Ask one sentinel about the primary of a name, and close the client."""
    async with aclosing(client):
        try:
            states: Any = await client.sentinel_masters()
            if name not in states:
                text = f"{client} knows no primary of this name; correct it in REDIS_URL, or let it `monitor` one"
                return SentinelReport([fault("Sentinel", text)])
            replicas: Any = await client.sentinel_slaves(name)
            findings = await _judge(client, name, states[name], replicas)
        except (AuthenticationError, NoPermissionError) as error:
            text = f"{client} refuses ({error}); correct sentinel_username and sentinel_password in REDIS_URL"
            return SentinelReport([fault("Sentinel", text)])
        except (RedisError, OSError) as error:
            text = f"{client} does not answer ({reason_of(error)}); start it, or correct REDIS_URL"
            return SentinelReport([warning("Sentinel", text)])
    return SentinelReport(findings, _living([states[name]]), _living(replicas))


def _living(states: Sequence[dict[str, Any]]) -> frozenset[tuple[str, int]]:
    return frozenset((one["ip"], one["port"]) for one in states if not (one["is_sdown"] or one["is_odown"]))


async def _judge(client: Redis, name: str, state: dict[str, Any], replicas: Sequence[dict[str, Any]]) -> list[Finding]:
    findings = []
    try:
        await client.execute_command("SENTINEL", "CKQUORUM", name)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        findings.append(fault("Sentinel", f"cannot carry out a failover ({error}); start more sentinels"))
    if state["num-other-sentinels"] + 1 < _LEAST_SENTINELS:
        text = "knows of less than three sentinels; run three, each on a host of its own"
        findings.append(warning("Sentinel", text))
    down = [f"{one['ip']}:{one['port']}" for one in replicas if one["is_sdown"]]
    return findings + [warning("Sentinel", f"takes the replica {address} for down; start it") for address in down]
