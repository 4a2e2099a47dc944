"""Two hosts that share nothing but Redis and a bucket, each with a network of its own, behind one nginx."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import PROJECT
from tests.support.two_hosts import CENTRE, NAMESPACE


@pytest.mark.skipif(
    subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode != 0,
    reason="this user may not have a network of its own",
)
def test_while_one_host_is_unplugged_the_other_one_ends_what_both_had_begun(tmp_path: Path) -> None:
    command = [*NAMESPACE, sys.executable, "-m", "tests.e2e.two_hosts_scenario", str(tmp_path)]
    environment = {**os.environ, **CENTRE, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, cwd=PROJECT, env=environment, check=True)
