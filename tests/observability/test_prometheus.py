"""What the workers of one main process count together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_workshop_storage.observability.metrics import metrics_folder
from tests.support.servers import PROJECT

_WORKER = """
import sys
from opentelemetry.metrics import NoOpMeterProvider
from open_workshop_storage.observability.prometheus import PrometheusMeterProvider
meter = PrometheusMeterProvider(NoOpMeterProvider()).get_meter("test")
meter.create_gauge("storage.sockets.open", "{socket}", "Open.").set(5)
meter.create_gauge("storage.disk.free", "By", "Free.").set(7)
meter.create_counter("storage.bytes", "By", "Bytes.").add(100, {"step": "received", "left out": "x"})
histogram = meter.create_histogram("storage.stage.duration", "s", "Time.", explicit_bucket_boundaries_advisory=[1, 10])
histogram.record(2, {"stage": "packed", "kind": "img"})
meter.create_counter("unknown.to.us").add(1)
print("counted", flush=True)
sys.stdin.read()
"""

_EXPOSITION = """
import os, sys
from pathlib import Path
from open_workshop_storage.observability.prometheus import exposition
sys.stdout.buffer.write(exposition(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), int(sys.argv[1])))
"""


def _variables(folder: Path) -> dict[str, str]:
    return {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(PROJECT / "src")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return metrics_folder(os.getpid())


@pytest.fixture
def workers(folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that have counted, and wait."""
    arguments = [sys.executable, "-c", _WORKER]
    started = [
        subprocess.Popen(arguments, env=_variables(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for worker in started:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "counted\n"
    yield started
    for worker in started:
        worker.communicate()


def scraped(folder: Path) -> list[str]:
    arguments = [sys.executable, "-c", _EXPOSITION, str(os.getpid())]
    text = subprocess.run(arguments, env=_variables(folder), check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_counts_outlive_their_worker_and_levels_end_with_it(folder: Path, workers: list[subprocess.Popen[str]]) -> None:
    counted = [
        'storage_bytes_total{step="received"} 200.0',
        'storage_stage_duration_seconds_bucket{kind="img",le="1.0",stage="packed"} 0.0',
        'storage_stage_duration_seconds_bucket{kind="img",le="10.0",stage="packed"} 2.0',
    ]
    before = scraped(folder)
    workers[0].kill()
    workers[0].wait()
    after = scraped(folder)
    for line in counted:
        assert line in before and line in after
    assert "storage_sockets_open 10.0" in before
    assert "storage_sockets_open 5.0" in after
    # Both workers read the same disk.
    assert "storage_disk_free_bytes 7.0" in before
    assert not [line for line in before if "unknown" in line]


def test_the_folder_of_a_main_process_that_ended_goes(tmp_path: Path, folder: Path) -> None:
    ended = subprocess.Popen(["true"])
    left = metrics_folder(ended.pid)
    ended.wait()
    assert metrics_folder(os.getpid()) == folder
    assert (folder.exists(), left.exists()) == (True, False)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path, folder: Path) -> None:
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        metrics_folder(os.getpid())


def test_each_metric_is_exposed_and_stands_in_the_document_with_its_labels() -> None:
    package = PROJECT / "src" / "open_workshop_storage" / "observability"
    counted = set(re.findall(r'"(storage\.[a-z.]+)"', (package / "metrics.py").read_text()))
    labels = (package / "prometheus.py").read_text().partition("_LABELS")[2].partition("}")[0]
    exposed = {
        name: re.findall(r'"(\w+)"', of_it) for name, of_it in re.findall(r'"(storage\.[a-z.]+)": \((.*)\)', labels)
    }
    rows = re.findall(
        r"^\| (`storage\..*?) \| (.*?) \|", (PROJECT / "docs" / "DEPLOYMENT.md").read_text(), re.MULTILINE
    )
    told = {name: re.findall(r"`(\w+)`", by) for names, by in rows for name in re.findall(r"`([^`]+)`", names)}
    assert counted == set(exposed)
    assert exposed == told
