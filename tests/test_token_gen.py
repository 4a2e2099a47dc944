"""What `token_gen.py` prints, and what it does to a configuration."""

from __future__ import annotations

import base64
import json
import os
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

import bcrypt
import pytest

import token_gen
from open_workshop_storage.utils.auth.random_tokens import is_hash_of_random_token

VALUES = {"upload_file": "new upload", "TRANSFER_JWT_SECRET": "new secret"}
FILLED_IN = 'upload_file = "new upload"\nTRANSFER_JWT_SECRET = "new secret"\n'
COPY = 'upload_file = "FILL IN"\nTRANSFER_JWT_SECRET = "FILL IN"\n'


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, token_gen.__file__, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def values_of(source: bytes) -> dict[str, object]:
    namespace: dict[str, object] = {}
    exec(compile(source, "config", "exec"), namespace)
    return namespace


def test_every_printed_pair_matches() -> None:
    printed = json.loads(run("--json").stdout)
    assert printed.keys() == {"upload_file", "delete_file", "storage_manage_token", "TRANSFER_JWT_SECRET"}
    assert len(printed.pop("TRANSFER_JWT_SECRET").encode()) >= 32
    for pair in printed.values():
        assert bcrypt.checkpw(pair["plain"].encode(), pair["hash"].encode())


def test_the_package_need_not_be_installed() -> None:
    # Without `site` the packages are found, but not what they link to.
    command = [sys.executable, "-S", token_gen.__file__, "--json"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": sysconfig.get_path("purelib")}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == 0, result.stderr
    assert is_hash_of_random_token(json.loads(result.stdout)["upload_file"]["hash"].encode())


def test_no_search_finds_a_token_and_its_hash_tells_wrong_ones_at_once() -> None:
    for_manager, for_storage = token_gen.generate()
    for name in token_gen.TOKEN_NAMES:
        assert is_hash_of_random_token(for_storage[name].encode())
        assert len(base64.urlsafe_b64decode(f"{for_manager[name]}=")) == 32


def test_plain_tokens_and_hashes_are_printed_apart() -> None:
    for_manager, for_storage = (values_of(part.encode()) for part in run().stdout.split("\n\n"))
    assert for_manager.keys() == for_storage.keys()
    for name in token_gen.TOKEN_NAMES:
        assert bcrypt.checkpw(str(for_manager[name]).encode(), str(for_storage[name]).encode())
    assert for_manager["TRANSFER_JWT_SECRET"] == for_storage["TRANSFER_JWT_SECRET"]


def test_a_new_configuration_is_the_sample_with_secrets_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "ow_config.py"
    printed = json.loads(run("--json", "--write", path).stdout)
    written = runpy.run_path(str(path))
    assert written["TRANSFER_JWT_SECRET"] == printed["TRANSFER_JWT_SECRET"]
    assert all(written[name] == printed[name]["hash"] for name in token_gen.TOKEN_NAMES)
    assert path.stat().st_mode & 0o777 == 0o600
    before, after = token_gen.SAMPLE.read_text().splitlines(), path.read_text().splitlines()
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    assert sorted(changed) == sorted(f'{name} = "FILL IN"' for name in written if name in printed)


def test_a_copy_that_all_could_read_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "ow_config.py"
    path.write_text(COPY)
    path.chmod(0o644)
    token_gen.write_config(path, VALUES)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == FILLED_IN
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_writing_as_root_keeps_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "ow_config.py"
    path.write_text(COPY)
    os.chown(path, 12345, 23456)
    token_gen.write_config(path, VALUES)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    target, link = tmp_path / "etc" / "storage.py", tmp_path / "ow_config.py"
    target.write_text(COPY)
    link.symlink_to(target)
    token_gen.write_config(link, VALUES)
    assert link.is_symlink()
    assert target.read_text() == FILLED_IN


def test_secrets_can_be_replaced_and_all_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "ow_config.py"
    path.write_text(f"# é\nMAIN_DIR = 'x'\n{COPY}y = 'upload_file = \"x\"'\n")
    others = {name: f"other {text}" for name, text in VALUES.items()}
    token_gen.write_config(path, others)
    token_gen.write_config(path, VALUES)
    assert path.read_text() == f"# é\nMAIN_DIR = 'x'\n{FILLED_IN}y = 'upload_file = \"x\"'\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (COPY.encode() + b"# \xff\n", "no text in UTF-8"),
        (b"", 'one line upload_file = "…"'),
        (COPY.replace("FILL", "\\").encode(), "has 0"),
        (COPY.encode() + b'upload_file = "again"\n', "has 2"),
    ],
)
def test_a_file_that_cannot_be_filled_in_is_left_alone(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "ow_config.py"
    path.write_bytes(content)
    with pytest.raises(token_gen.ConfigError, match=complaint):
        token_gen.write_config(path, VALUES)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_no_secrets_are_printed_if_they_could_not_be_written(tmp_path: Path) -> None:
    result = run("--write", tmp_path / "missing" / "ow_config.py")
    assert result.returncode == 1
    assert result.stderr.endswith("missing/ow_config.py cannot be written: No such file or directory\n")
    assert result.stdout == ""


def test_unknown_arguments_are_refused() -> None:
    assert run("--wirte", "ow_config.py").returncode == 2
