"""The doctor's checks of Redis: is it reachable, durable and replicated, and may its user do what services do?

Checks of sentinels: do they answer, agree, and have what a failover needs?
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from open_workshop_storage.core.settings import Settings
from open_workshop_storage.services.operations.findings import (
    PATIENCE_SECONDS,
    Finding,
    clock_findings,
    fault,
    ok,
    reason_of,
    warning,
)
from open_workshop_storage.stores.redis_client import redis_client, usual_options
from open_workshop_storage.stores.redis_keys import RedisKeys
from open_workshop_storage.stores.redis_sentinel import replica_client, sentinel_clients
from open_workshop_storage.utils.net.redis_urls import SentinelUrl, is_sentinel_url, parse_sentinel_url

_ADVICE = 'give its user the rights of docs/DEPLOYMENT.md, "2. Redis"'
_WRITE = "return redis.call('SET', KEYS[1], redis.call('TIME')[1], 'PX', 10000)"
_LEAST_SENTINELS = 3


async def examine_redis(settings: Settings) -> list[Finding]:
    """Check the Redis that the settings name."""
    if not settings.redis_url:
        text = "REDIS_URL is empty: run the loader with one worker; a restart forgets transfers that are under way"
        return [warning("Redis", text)]
    if not is_sentinel_url(settings.redis_url):
        return await _examine_server("Redis", redis_client(settings.redis_url), settings.redis_prefix)
    url = parse_sentinel_url(settings.redis_url)
    sentinels = await _examine_sentinels(url)
    findings = [*sentinels.findings]
    if sentinels.primaries:
        primary = redis_client(settings.redis_url)
        findings += await _examine_server("Redis", primary, settings.redis_prefix, len(sentinels.replicas))
    for host, port in sorted(sentinels.replicas):
        # Any replica may become the primary.
        findings += await _examine_server(f"replica {host}:{port}", replica_client(url, usual_options(), host, port))
    return findings


async def _examine_server(
    subject: str, redis: Redis, prefix: str | None = None, replicas: int | None = None
) -> list[Finding]:
    """Check a data server, and close its client.

    Args:
        prefix: `REDIS_PREFIX`, to try writing to a primary; `None` for a replica.
        replicas: How many servers may take a primary's place; `None` without sentinels.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            findings = await _rights(redis, RedisKeys(prefix).doctor) if prefix else []
            asked_at = time.time()
            seconds, microseconds = await redis.time()
            findings += clock_findings(subject, seconds + microseconds / 1e6 - asked_at)
            findings += await _state(subject, redis, replicas)
            return findings or [ok(subject, "writes each change to its disk")]
    except (AuthenticationError, ResponseError) as error:
        return [fault(subject, f"refuses ({error}); correct user, password and database in REDIS_URL, or {_ADVICE}")]
    except (RedisError, OSError) as error:
        return [fault(subject, f"no answer ({reason_of(error)}); start it, or correct REDIS_URL")]
    finally:
        await redis.aclose()


async def _rights(redis: Redis, name: str) -> list[Finding]:
    """Try a write, a message and a subscription, under a name below `REDIS_PREFIX`."""
    pubsub = redis.pubsub()
    tries: dict[str, Callable[[], Awaitable[Any]]] = {
        "write a key by a script": lambda: redis.eval(_WRITE, 1, name),
        "publish": lambda: redis.publish(name, ""),
        "subscribe": lambda: pubsub.subscribe(name),
    }
    findings = []
    for right, attempt in tries.items():
        try:
            await attempt()
            if right == "subscribe":
                await pubsub.get_message(timeout=PATIENCE_SECONDS)
        except NoPermissionError:
            findings.append(fault("Redis", f"its user may not {right} ({name}); {_ADVICE}"))
        except OutOfMemoryError:
            findings.append(fault("Redis", "is full, and refuses changes; raise `maxmemory`, or remove other keys"))
        except ReadOnlyError:
            findings.append(fault("Redis", "is a replica, which cannot be written; name its primary in REDIS_URL"))
        except ResponseError as error:
            if not str(error).startswith("NOREPLICAS"):
                raise
            findings.append(fault("Redis", "refuses changes without a replica that follows; start the replicas"))
    await pubsub.aclose()  # type: ignore[no-untyped-call]
    return findings


async def _state(subject: str, redis: Redis, replicas: int | None) -> list[Finding]:
    try:
        info = await redis.info()
    except NoPermissionError:
        return [warning(subject, f"its user may not ask INFO, so whether jobs survive a crash is not known; {_ADVICE}")]
    findings = []
    if "err" in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")):
        findings.append(fault(subject, "could not write to its disk, and may refuse changes; make room there"))
    if not info.get("aof_enabled"):
        findings.append(warning(subject, "loses the latest jobs when it dies; set `appendonly yes`"))
    if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
        findings.append(fault(subject, "may throw jobs away when it is full; set `maxmemory-policy noeviction`"))
    return findings if replicas is None else findings + _replication(subject, info, replicas)


def _replication(subject: str, info: Mapping[str, Any], replicas: int) -> list[Finding]:
    # INFO has this field only where `min-replicas-to-write` is set.
    needs_replica = "min_slaves_good_slaves" in info
    if not info.get("connected_slaves"):
        return [warning(subject, "has no replica that follows it, so a failover is not possible; start one")]
    if needs_replica and replicas < 2:
        text = "refuses changes while its only replica is away; start another, or set `min-replicas-to-write 0`"
        return [warning(subject, text)]
    if not needs_replica and replicas > 1:
        text = "goes on with changes that are lost when it is cut off from all others; set `min-replicas-to-write 1`"
        return [warning(subject, text)]
    return []


@dataclass(frozen=True)
class _SentinelReport:
    """What one sentinel, or all of them together, answered.

    Attributes:
        primaries: Host and port of the primary, if it is up; several if sentinels differ.
        replicas: Host and port of each replica that is up.
    """

    findings: Sequence[Finding]
    primaries: frozenset[tuple[str, int]] = frozenset()
    replicas: frozenset[tuple[str, int]] = frozenset()


async def _examine_sentinels(url: SentinelUrl) -> _SentinelReport:
    """Ask all sentinels that the URL names."""
    clients = sentinel_clients(url, usual_options())
    reports = await asyncio.gather(*(_examine_sentinel(client, url.primary) for client in clients))
    # All sentinels may say the same.
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
    return _SentinelReport(findings, primaries, replicas)


async def _examine_sentinel(client: Redis, name: str) -> _SentinelReport:
    """Ask one sentinel about the primary of a name, and close the client."""
    async with aclosing(client):
        try:
            states: Any = await client.sentinel_masters()
            if name not in states:
                text = f"{client} knows no primary of this name; correct it in REDIS_URL, or let it `monitor` one"
                return _SentinelReport([fault("Sentinel", text)])
            replicas: Any = await client.sentinel_slaves(name)
            findings = await _failover_findings(client, name, states[name], replicas)
        except (AuthenticationError, NoPermissionError) as error:
            text = f"{client} refuses ({error}); correct sentinel_username and sentinel_password in REDIS_URL"
            return _SentinelReport([fault("Sentinel", text)])
        except (RedisError, OSError) as error:
            text = f"{client} does not answer ({reason_of(error)}); start it, or correct REDIS_URL"
            return _SentinelReport([warning("Sentinel", text)])
    return _SentinelReport(findings, _living([states[name]]), _living(replicas))


def _living(states: Sequence[dict[str, Any]]) -> frozenset[tuple[str, int]]:
    return frozenset((one["ip"], one["port"]) for one in states if not (one["is_sdown"] or one["is_odown"]))


async def _failover_findings(
    client: Redis, name: str, state: dict[str, Any], replicas: Sequence[dict[str, Any]]
) -> list[Finding]:
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
