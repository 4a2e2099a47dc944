"""Weaknesses of Python and locale that operators are told of."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile

import pytest

from open_workshop_storage.services.operations.environment import environment_warnings
from tests.support.servers import PROJECT

NAME = "_header_length_prefix_re"


@pytest.mark.parametrize(("is_corrected", "subjects"), [(True, []), (False, ["Python"])])
def test_a_python_that_a_small_tar_can_stop_is_named(
    is_corrected: bool, subjects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, NAME, raising=False)
    if is_corrected:
        monkeypatch.setattr(tarfile, NAME, None, raising=False)
    assert [subject for subject, _ in environment_warnings()] == subjects


def test_releases_with_the_correction_have_the_name_that_tells() -> None:
    corrected = sys.version_info >= (3, 13) or sys.version_info[:2] == (3, 12) and sys.version_info[2] >= 6
    corrected = corrected or sys.version_info[:2] == (3, 11) and sys.version_info[2] >= 10
    # Distributions correct older ones too.
    assert hasattr(tarfile, NAME) or not corrected


@pytest.mark.parametrize(("utf8", "is_named"), [("0", True), ("1", False)])
def test_a_locale_that_is_not_utf_8_is_named(utf8: str, is_named: bool) -> None:
    code = "from open_workshop_storage.services.operations.environment import *; print(dict(environment_warnings()))"
    variables = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf8, "PYTHONPATH": str(PROJECT / "src")}
    told = subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True)
    assert ("PYTHONUTF8=1" in told.stdout) is is_named, told.stderr
