"""What files of a gigabyte cost, beside nginx with `sendfile`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import cpu_seconds, download
from benchmarks.report import Findings, Measure, Row, interleaved, ratio
from benchmarks.stage import stage
from tests.support.nginx import PREFIX
from tests.support.servers import Server

_GIB = 1 << 30
_URL = "/download/resource/large.bin"
_ROUNDS = 7
_PARTS = 16
_PART_BYTES = 64 * 1024 * 1024
_BLOCK_BYTES = 256 * 1024
_CONNECTIONS = 4


def measure(folder: Path) -> Findings:
    """Compare CPU seconds per GiB, and throughput, of whole files and of parts."""
    whole = [""] * _CONNECTIONS
    parts = [f"bytes={index * _PART_BYTES}-{(index + 1) * _PART_BYTES - 1}" for index in range(_PARTS)]
    rates: dict[str, list[float]] = {}

    def taking(name: str, server: Server, wanted: Sequence[str], *paid: Server, path: str = _URL) -> Measure:
        def cost() -> float:
            before = cpu_seconds(paid or [server])
            received, seconds = download([(server.url + path, part) for part in wanted])
            rates.setdefault(name, []).append(received / seconds / _GIB)
            return (cpu_seconds(paid or [server]) - before) / (received / _GIB)

        return cost

    with stage(folder) as servers:
        bare = servers.bare(servers.stored("resource/large.bin", _GIB))
        plain, behind = servers.distributor(), servers.distributor(ACCEL_REDIRECT_PREFIX=PREFIX)
        costs = interleaved(
            _ROUNDS,
            {
                "whole": taking("whole", plain, whole),
                "nginx": taking("nginx", servers.reference, whole),
                "Python": taking("Python", servers.front(behind), whole, behind),
                "parts": taking("parts", plain, parts),
                "blocks": taking("blocks", bare, [""] * _PARTS, path=f"/blocks/{_PART_BYTES // _BLOCK_BYTES}"),
                "nginx's parts": taking("nginx's parts", servers.reference, parts),
            },
        )
    unit = "CPU s/GiB"
    rows = [
        ratio("1 GiB, 4 connections: CPU over nginx", 1.5, costs, "whole", "nginx", unit, at_most=True),
        ratio("16 ranges of 64 MiB: CPU over nginx", 2.2, costs, "parts", "nginx's parts", unit, at_most=True),
        ratio("16 ranges of 64 MiB: throughput over nginx", 0.75, rates, "parts", "nginx's parts", "GiB/s"),
        Row("1 GiB through nginx: Python's CPU seconds", 0.01, costs["Python"], at_most=True),
    ]
    cost = ratio("", 2.2, costs, "blocks", "nginx's parts", unit)
    rate = ratio("", 0.75, rates, "blocks", "nginx's parts", "GiB/s")
    notes = f"""
Large files are limited by copying. nginx's `sendfile` hands pages of the cache to the socket; here each byte is copied
from the cache to a block, from there to granian's own memory, and from there to the socket. An app that only sends the
same block of 256 KiB again and again, and reads nothing, costs {cost.median:.2f} of nginx ({cost.detail}) at
{rate.median:.2f} of its throughput ({rate.detail}): that is the floor for bytes that pass through granian.

`perf` showed these three copies as 19, 17 and 10 % of the worker's time, and TCP and the hand-over between Python's
thread and granian's as nearly all of the rest. Each hand-over takes some 20 µs, whatever the size of its block.
"""
    return Findings("Large files", rows, notes)
