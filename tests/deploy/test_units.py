"""The systemd units of `deploy/`: sound, closed, and in step with what they start."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import GRANIAN, PROJECT

UNITS = sorted((PROJECT / "deploy" / "systemd").iterdir())
MOST_EXPOSURE = 3.0

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")


def as_installed(unit: Path, folder: Path) -> Path:
    """Return a copy whose commands exist on this machine, under the name of an instance if it is a template."""
    copy = folder / unit.name.replace("@.", "@8001.")
    text = unit.read_text().replace("/opt/open-workshop-storage/.venv/bin/granian", "/bin/true")
    copy.write_text(text.replace("/opt/open-workshop-storage", str(PROJECT)))
    return copy


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong_with(unit: Path, tmp_path: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", str(as_installed(unit, tmp_path))]
    found = subprocess.run(command, capture_output=True, text=True)
    # It also tells of other units of the machine, which may have faults of their own.
    faults = [line for line in (found.stdout + found.stderr).splitlines() if "open-workshop" in line]
    assert (found.returncode, faults) == (0, [])


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_little_is_exposed_by(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE * 10:.0f}", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout


def service_of(unit: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(unit)
    return parser["Service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_child_without_memory_does_not_end_its_service(unit: Path) -> None:
    if "granian" in service_of(unit)["execstart"]:
        assert service_of(unit)["oompolicy"] == "continue"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_names_of_files_are_utf_8_whatever_the_locale(unit: Path) -> None:
    if "granian" in service_of(unit)["execstart"]:
        assert "PYTHONUTF8=1" in service_of(unit)["environment"].split()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_is_started_exists(unit: Path) -> None:
    command = service_of(unit)["execstart"].split()
    if "granian" in command[0]:
        assert " ".join(GRANIAN[1:]) in " ".join(command)
        module = command[-1].removesuffix(":app").replace(".", "/")
        assert (PROJECT / "src" / f"{module}.py").is_file()
        assert "--respawn-failed-workers" in command or "distributor" in command[-1]
    else:
        assert (PROJECT / command[-1].removeprefix("/opt/open-workshop-storage/")).is_file()
