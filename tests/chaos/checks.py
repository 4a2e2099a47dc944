"""What must be true after a run, seen from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from tests.chaos.plan import LOADER_WORKERS
from tests.chaos.senders import Transfer, is_settled
from tests.support.manager import Callback
from tests.support.processes import children
from tests.support.services import Services

_OF_THE_TOKEN = ("iat", "exp")


def problems_with_ends(transfer: Transfer, callbacks: Sequence[Callback]) -> list[str]:
    """Return what is wrong with the ends of one transfer that the Manager has heard of."""
    ends: dict[str, list[dict[str, Any]]] = {}
    for callback in callbacks:
        said = {name: value for name, value in callback.claims.items() if name not in _OF_THE_TOKEN}
        ends.setdefault(said["jti"], []).append(said)
    problems = [
        f"end {jti} is told in different words" for jti, said in ends.items() if said.count(said[0]) < len(said)
    ]
    if len(ends) > transfer.requests:
        problems.append(f"{len(ends)} ends of {transfer.requests} attempts")
    reasons = {said[0].get("reason") for said in ends.values()}
    # Only a body that comes from a client cannot be had again.
    allowed = {transfer.payload.reason} | ({"exception"} if transfer.planned.way == "upload" else set())
    if reasons - allowed:
        problems.append(f"reasons {reasons - allowed} instead of {transfer.payload.reason}")
    if not any(is_settled(callback, transfer.payload) for callback in callbacks):
        problems.append("has not ended as it must")
    return problems


def problem_with_file(transfer: Transfer, main_dir: Path) -> str | None:
    """Return what is wrong with a transfer's permanent file, if anything is."""
    stored = main_dir / transfer.path
    if transfer.payload.reason is not None:
        return "a refused file was stored" if stored.exists() else None
    return transfer.payload.problem_with(stored.read_bytes()) if stored.exists() else "no file was stored"


def strange_files(transfers: Sequence[Transfer], main_dir: Path) -> list[str]:
    """Return the permanent files that belong to no transfer."""
    expected = {transfer.path for transfer in transfers}
    folders = (main_dir / name for name in ("archive", "resource", "avatar"))
    stored = {
        file.relative_to(main_dir).as_posix() for folder in folders for file in folder.rglob("*") if file.is_file()
    }
    return [f"strange file {path}" for path in sorted(stored - expected)]


def leftovers(services: Services, client: redis.Redis) -> list[str]:
    """Return what is still there of a run's jobs: workspaces, keys, processes."""
    temp = services.main_dir / "temp"
    found = [f"workspace {entry.name}" for entry in (temp.iterdir() if temp.exists() else ())]
    with client:
        for key in client.scan_iter(f"test-{services.main_dir.parent.name}:*"):
            # What is no job's may stay as long as it goes by itself.
            if ":job:" in key or client.ttl(key) < 0:
                found.append(f"key {key}: {_value(client, key)}")
    workers = children(services.servers["loader"].process.pid)
    if len(workers) != LOADER_WORKERS:
        found.append(f"workers {workers}")
    return found + _strange_processes(services, [services.servers["loader"].process.pid, *workers])


def _value(client: redis.Redis, key: str) -> object:
    match client.type(key):
        case "hash":
            return client.hgetall(key)
        case "zset":
            return client.zrange(key, 0, -1, withscores=True)
        case kind:
            return kind


def _strange_processes(services: Services, known: Sequence[int]) -> list[str]:
    """Return the processes that have to do with these services and should be gone."""
    configuration = str(services.main_dir.parent / "ow_config.py").encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        of_a_job = bytes(services.main_dir) in command
        if of_a_job or (configuration in environment and int(folder.name) not in known):
            found.append(f"process {folder.name}: {command.replace(bytes(1), b' ').decode(errors='replace')}")
    return found
