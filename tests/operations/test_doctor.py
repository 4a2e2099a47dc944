"""Checks of the configuration that need no running service."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from open_workshop_storage.services.operations.doctor import examine
from open_workshop_storage.services.operations.findings import (
    Finding,
    Severity,
    clock_findings,
    environment_findings,
    reason_of,
)
from open_workshop_storage.services.storage.bucket_requests import Credentials
from tests.archives import fake_seven_zip
from tests.support.configs import Secrets
from tests.support.in_process import make_settings
from tests.support.object_store import settings_of
from tests.support.servers import PROJECT

pytestmark = pytest.mark.anyio
_FORMATS_OF_SEVEN_ZIP = "\n".join(
    f" 0  ......................  {name:8} {name}" for name in "zip 7z Rar Rar5 tar gzip bzip2 xz zstd".split()
)
NAME_OF_CORRECTION = "_header_length_prefix_re"


async def findings(root: Path, **changes: object) -> dict[str, Finding]:
    """Return what the doctor finds, by subject."""
    return {finding.subject: finding async for finding in examine(make_settings(root, Secrets(), **changes))}


@pytest.mark.parametrize(
    ("codecs", "severity", "text"),
    [("  D     40305 Rar5", Severity.OK, "reads"), (" 4ED   303011B BCJ2", Severity.WARNING, "p7zip-rar")],
)
async def test_a_7z_that_lists_rars_and_cannot_unpack_them_is_named(
    codecs: str, severity: Severity, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_seven_zip.install(tmp_path, f"cat <<END\n{_FORMATS_OF_SEVEN_ZIP}\nCodecs:\n{codecs}\nEND", monkeypatch)
    seven_zip = (await findings(tmp_path))["7z"]
    assert seven_zip.severity is severity and text in seven_zip.text


async def test_a_bucket_is_named_whether_it_is_sound_or_not(tmp_path: Path, bucket: Credentials) -> None:
    sound = {name.lower(): value for name, value in settings_of(bucket).items()}
    found = (await findings(tmp_path, **sound))["S3_BUCKET"]
    assert found.severity is Severity.OK and bucket.bucket in found.text
    found = (await findings(tmp_path, **{**sound, "s3_secret_access_key": "wrong"}))["S3_BUCKET"]
    assert found.severity is Severity.FAULT and "S3_ENDPOINT_URL" in found.text


@pytest.mark.parametrize(("ahead_seconds", "text"), [(9.9, ""), (-3600, "its clock is -3600 s off this one")])
def test_a_clock_that_is_off_is_named(ahead_seconds: float, text: str) -> None:
    assert text in "".join(finding.text for finding in clock_findings("Redis", ahead_seconds))


def test_an_error_without_a_text_is_named_by_its_type() -> None:
    assert (reason_of(TimeoutError()), reason_of(OSError("no route"))) == ("TimeoutError", "no route")


@pytest.mark.parametrize(("is_corrected", "subjects"), [(True, []), (False, ["Python"])])
def test_a_python_that_a_small_tar_can_stop_is_named(
    is_corrected: bool, subjects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, NAME_OF_CORRECTION, raising=False)
    if is_corrected:
        monkeypatch.setattr(tarfile, NAME_OF_CORRECTION, None, raising=False)
    assert [finding.subject for finding in environment_findings()] == subjects


def test_releases_with_the_correction_have_the_name_that_tells() -> None:
    corrected = sys.version_info >= (3, 13) or sys.version_info[:2] == (3, 12) and sys.version_info[2] >= 6
    corrected = corrected or sys.version_info[:2] == (3, 11) and sys.version_info[2] >= 10
    # Distributions correct older ones too.
    assert hasattr(tarfile, NAME_OF_CORRECTION) or not corrected


@pytest.mark.parametrize(("utf8", "is_named"), [("0", True), ("1", False)])
def test_a_locale_that_is_not_utf_8_is_named(utf8: str, is_named: bool) -> None:
    code = "from open_workshop_storage.services.operations.findings import *; print(*environment_findings())"
    variables = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf8, "PYTHONPATH": str(PROJECT / "src")}
    printed = subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True)
    assert ("PYTHONUTF8=1" in printed.stdout) is is_named, printed.stderr
