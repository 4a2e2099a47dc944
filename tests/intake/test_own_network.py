"""Names that lead into the operator's network, by DNS answers that a system's resolver really gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.servers import PROJECT

NAMESPACE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]


@pytest.mark.skipif(
    subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode != 0,
    reason="this user may not have a network of its own",
)
def test_no_answer_of_a_name_server_leads_inside() -> None:
    command = [*NAMESPACE, sys.executable, "-m", "tests.support.own_network"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, check=True)
    outcome = json.loads(run.stdout)
    assert outcome["came"] == {
        "public": ["file"],
        "private": ["blocked_url"],
        "mixed": ["blocked_url"],
        "mixed-6": ["blocked_url"],
        "translated": ["blocked_url"],
        "mapped": ["blocked_url"],
        "rebinding": ["file", "blocked_url"],
        "rebinding-redirect": ["blocked_url"],
    }
    assert outcome["connections_inside"] == 0
    assert (
        outcome["asked"]["public"] == 1 and outcome["asked"]["rebinding"] == outcome["asked"]["rebinding-redirect"] == 2
    )
