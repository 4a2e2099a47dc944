"""The sample configuration and the documentation name every setting with its true default."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import watchdog
from open_workshop_storage.core.settings import ENVIRONMENT_ONLY, Settings, SettingsError, load_settings, setting_name

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = PROJECT / "ow_config_sample.py"

OPTIONAL = {
    setting_name(field): info.default for field, info in Settings.model_fields.items() if not info.is_required()
}
REQUIRED = {setting_name(field) for field, info in Settings.model_fields.items() if info.is_required()}


def documented(heading: str) -> dict[str, str]:
    """Return names and defaults in the table below a heading of docs/CONFIGURATION.md."""
    text = (PROJECT / "docs" / "CONFIGURATION.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.+?)`|(required)|(empty)) \| ", text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| `", text, re.MULTILINE))
    values = {name: required or default for name, default, required, _ in rows}
    assert len(values) == len(rows)
    return values


def test_the_sample_holds_every_default() -> None:
    sample = {name: value for name, value in runpy.run_path(str(SAMPLE)).items() if not name.startswith("__")}
    usual = {name: value for name, value in OPTIONAL.items() if name.lower() not in ENVIRONMENT_ONLY}
    assert sample == usual | {"MAIN_DIR": str(usual["MAIN_DIR"])} | dict.fromkeys(REQUIRED, "FILL IN")


def test_the_sample_sets_each_name_once() -> None:
    names = re.findall(r"^(\w+) = ", SAMPLE.read_text(), re.MULTILINE)
    assert len(names) == len(set(names))


def test_the_sample_explains_every_setting() -> None:
    blocks = [block for block in SAMPLE.read_text().split("\n\n") if re.search(r"^\w+ = ", block, re.MULTILINE)]
    assert all(block.startswith("# ") for block in blocks)


def test_the_sample_as_it_is_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPTIONAL.keys() | REQUIRED:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("OW_CONFIG", str(SAMPLE))
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert {line.split()[0] for line in str(refusal.value).splitlines()[1:]} == REQUIRED


def test_the_documentation_holds_every_default() -> None:
    assert documented("Settings of the services") == {
        **{name: str(value) for name, value in OPTIONAL.items()},
        **dict.fromkeys(REQUIRED, "required"),
    }


def test_the_documentation_holds_every_default_of_the_watchdog() -> None:
    assert documented("Settings of the watchdog") == {
        "WATCHDOG_HEALTH_URL": "required",
        "WATCHDOG_RESTART_COMMAND": "required",
        **{name: f"{value:g}" for name, value in watchdog.DEFAULT_SECONDS.items()},
    }
