"""The package that `pip install .` makes, and the files that lock what it needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from open_workshop_storage import __version__
from tests.support.servers import PROJECT, clean_environment

PIP = [sys.executable, "-m", "pip", "--quiet", "--no-cache-dir"]
TABLES = tomllib.loads((PROJECT / "pyproject.toml").read_text())
RUNTIME = [Requirement(item) for item in TABLES["project"]["dependencies"]]
DEVELOPMENT = {canonicalize_name(item) for item in TABLES["dependency-groups"]["dev"] if isinstance(item, str)}
PIN = re.compile(
    r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)(?: ; .*?)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n", re.MULTILINE
)


def locked(name: str) -> dict[str, str]:
    """Return the packages of a requirements file with their versions; each line of it has to be understood."""
    text = (PROJECT / name).read_text()
    rest = PIN.sub("", text)
    assert [line for line in rest.splitlines() if line and not line.lstrip().startswith("#")] == []
    return {match[1]: match[2] for match in PIN.finditer(text)}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package was installed in, from a copy that is gone."""
    checkout, target = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(PROJECT / name, checkout)
    shutil.copytree(PROJECT / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    options = ["--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*PIP, "install", *options, "."], cwd=checkout, env=clean_environment(), check=True)
    shutil.rmtree(checkout)
    return target


def doctor(installed: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder; return what it said."""
    variables = clean_environment() | {"PYTHONPATH": str(installed)} | environment
    command = [str(installed / "bin" / "open-workshop-storage"), "doctor"]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60)


def test_the_installed_package_has_its_name_version_and_all_modules(installed: Path) -> None:
    (metadata,) = installed.glob("open_workshop_storage-*.dist-info/METADATA")
    text = metadata.read_text()
    assert f"\nName: open-workshop-storage\nVersion: {__version__}\n" in text
    assert "\nRequires-Python: >=3.11\n" in text
    assert (installed / "open_workshop_storage" / "py.typed").exists()
    modules = {path.relative_to(PROJECT / "src") for path in (PROJECT / "src").rglob("*.py")}
    assert modules == {path.relative_to(installed) for path in (installed / "open_workshop_storage").rglob("*.py")}
    console = {
        path.name: path.read_bytes() for path in (PROJECT / "src" / "open_workshop_storage" / "console").iterdir()
    }
    assert console == {
        path.name: path.read_bytes() for path in (installed / "open_workshop_storage" / "console").iterdir()
    }


def test_the_command_reads_the_configuration_of_the_current_folder(installed: Path, tmp_path: Path) -> None:
    assert "MANAGER_URL is missing" in doctor(installed, tmp_path).stderr
    (tmp_path / "ow_config.py").write_text("MANAGER_URL = 'https://manager.test'\n")
    refusal = doctor(installed, tmp_path).stderr
    assert "ACCESS_SERVICE_URL is missing" in refusal and "MANAGER_URL" not in refusal


def test_the_command_reads_the_configuration_that_ow_config_names(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("MANAGER_URL = 'https://manager.test'\n")
    assert "MANAGER_URL" not in doctor(installed, Path("/"), OW_CONFIG=str(tmp_path / "other.py")).stderr


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-runtime.txt"])
def test_the_services_versions_are_locked_with_hashes_and_in_their_ranges(name: str) -> None:
    versions = locked(name)
    assert [item for item in RUNTIME if versions[canonicalize_name(item.name)] not in item.specifier] == []
    assert "://" not in (PROJECT / name).read_text()


def test_callers_of_the_client_may_install_newer_packages() -> None:
    assert [item for item in RUNTIME if any(part.operator not in {">=", "<"} for part in item.specifier)] == []


def test_production_gets_the_tested_versions_and_nothing_for_tests() -> None:
    runtime, development = locked("requirements-runtime.txt"), locked("requirements.txt")
    assert runtime.items() <= development.items()
    assert DEVELOPMENT <= development.keys()
    # A package of the services' needs it, too.
    assert DEVELOPMENT & runtime.keys() == {"packaging"}


def test_hooks_before_a_commit_run_the_checks_of_ci() -> None:
    hooks = re.findall(r"^ +entry: make (\S+)$", (PROJECT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    (checks,) = re.findall(r"^for target in (.*); do$", (PROJECT / ".ci" / "run").read_text(), re.MULTILINE)
    # These tests take minutes.
    assert checks.split() == ["test-browser", *hooks]
