"""The long run: `make chaos`, or `python -m tests.chaos --seed 7` to see one again."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.hosts import MOVES, run_hosts
from tests.chaos.plan import FAILOVERS, LONG, SHORT, make_plan
from tests.chaos.run import PromiseBroken, run
from tests.chaos.scanner import run_scanner


def main() -> int:
    """Do one run and return its exit status."""
    arguments = argparse.ArgumentParser(prog="python -m tests.chaos", description="Random transfers and faults.")
    arguments.add_argument("--seed", type=int, default=random.randrange(10**6), help="of an earlier run, to repeat it")
    sizes = arguments.add_mutually_exclusive_group()
    sizes.add_argument("--short", dest="size", action="store_const", const=SHORT, help="as in the test suite")
    sizes.add_argument("--hosts", type=int, nargs="?", const=MOVES, help="moves into an object store by two hosts")
    sizes.add_argument("--failovers", dest="size", action="store_const", const=FAILOVERS, help="of Redis, by sentinels")
    sizes.add_argument("--scanner", action="store_true", help="uploads while the malware scanner fails")
    chosen = arguments.parse_args()
    plan = make_plan(chosen.seed, chosen.size or LONG)
    with tempfile.TemporaryDirectory(prefix="open-workshop-chaos-") as folder:
        try:
            if chosen.hosts:
                print(asyncio.run(run_hosts(chosen.seed, chosen.hosts, Path(folder))))
            elif chosen.scanner:
                print(asyncio.run(run_scanner(chosen.seed, Path(folder))))
            else:
                print(f"Seed {plan.seed}: {len(plan.transfers)} transfers, {len(plan.faults)} faults", flush=True)
                print(asyncio.run(run(plan, Path(folder))))
        except PromiseBroken as broken:
            print(broken)
            return 1
    return 0


sys.exit(main())
