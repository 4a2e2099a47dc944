"""What `token_gen.py` prints, and what it does to a configuration."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import token_gen

VALUES = {"upload_file": "new upload", "delete_file": "new delete", "TRANSFER_JWT_SECRET": "new secret"}
SETTLED = 'delete_file = "new delete"\nTRANSFER_JWT_SECRET = "new secret"\n'
"""The end of each configuration below, which is only about `upload_file`."""


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


def test_writing_keeps_the_mode_and_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ow_config.py"
    path.write_text("")
    path.chmod(0o640)
    assert run("--write", path).returncode == 0
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_writing_as_root_keeps_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "ow_config.py"
    path.write_text("")
    os.chown(path, 12345, 23456)
    token_gen.write_config(path, VALUES)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    target, link = tmp_path / "etc" / "storage.py", tmp_path / "ow_config.py"
    target.write_text('upload_file = "old"\n')
    link.symlink_to(target)
    token_gen.write_config(link, VALUES)
    assert link.is_symlink()
    assert target.read_text() == 'upload_file = "new upload"\n' + SETTLED


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"x = 1\ny = (\n", "syntax error in line 2"), (b"x = '\xff'\n", "no text in UTF-8"), (b"\0", "ow_config.py")],
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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('upload_file="old"# keep\n', 'upload_file="new upload"# keep\n'),
        (
            "upload_file: str  =  'old' ; x = 'upload_file'\n",
            "upload_file: str  =  \"new upload\" ; x = 'upload_file'\n",
        ),
        ('upload_file = """a\nb""" # é\n', 'upload_file = "new upload" # é\n'),
        ('é = "é"; upload_file = f"{é}é" "é"; z = é\n', 'é = "é"; upload_file = "new upload"; z = é\n'),
        ('upload_file = (\n    "a"\n    f"b{1}"\n)\n', 'upload_file = (\n    "new upload"\n)\n'),
        ('upload_file = \\\n  "a" \\\n  "b"\n', 'upload_file = \\\n  "new upload"\n'),
        ("upload_file = dict(\n  a=1,\n)['a']\n", 'upload_file = "new upload"\n'),
        ("upload_file = 1\nupload_file = 2\n", 'upload_file = "new upload"\nupload_file = "new upload"\n'),
        ("\ufeffupload_file = 1\n", '\ufeffupload_file = "new upload"\n'),
    ],
)
def test_only_the_value_of_an_assignment_changes(before: str, after: str) -> None:
    assert token_gen.fill_in((before + SETTLED).encode(), VALUES).decode() == after + SETTLED or (
        # What is missing goes to the end.
        token_gen.fill_in((SETTLED + before).encode(), VALUES).decode()
        == SETTLED + after
    )


@pytest.mark.parametrize(
    "before",
    [
        "upload_file = delete_file = 'old'\n",
        "upload_file, x = 'old', 1\n",
        "upload_file = 'old'\nupload_file += 'more'\n",
        "upload_file: str\n",
        "upload_file = 'old'\nfrom os.path import sep as upload_file\n",
        "upload_file = 'old'\nfrom os.path import *\n",
        "def upload_file(): pass\n",
        "if not 1:\n    upload_file = 'old'\n",
        "upload_file = 'old'\nfor upload_file in 'xyz': pass\n",
        "if (upload_file := 'old'): pass\n",
        "upload_file = 'old'\ndel upload_file\n",
    ],
)
def test_a_name_set_in_another_way_gets_its_value_at_the_end(before: str) -> None:
    filled = token_gen.fill_in(before.encode(), VALUES)
    assert VALUES.items() <= values_of(filled).items()
    assert filled.decode().endswith('upload_file = "new upload"\n' + SETTLED)


def test_every_branch_is_filled_in() -> None:
    before = "if x:\n  upload_file = 1\nelse:\n  try:\n    upload_file = 2\n  finally:\n    pass\n"
    after = before.replace("1", '"new upload"').replace("2", '"new upload"')
    assert token_gen.fill_in((before + SETTLED).encode(), VALUES).decode().startswith(after + SETTLED)


def test_names_in_functions_and_classes_are_others() -> None:
    before = "def f():\n  upload_file = 1\nclass C:\n  upload_file = 2\nx = lambda: (upload_file := 3)\n"
    assert token_gen.fill_in(before.encode(), VALUES).decode().startswith(before)


_LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
_OTHER_LINES = st.sampled_from(
    ["", "# é \f upload_file = 1", "\fx = '''é\n\n'''", "if 1: y = 'ü'", 'MAIN_DIR = "€" # €', "é = 1; ü = 2"]
)
_ASSIGNMENTS = st.sampled_from(
    [
        "{0} = 'é'",
        "{0}: str = 'é' 'x'",
        "é = 'é'; {0} = '''€\n€'''; x = 1",
        "{0} = (\n f'{{1}}'\n 'x' # y\n)",
        "{0}='' # €",
    ]
)


@given(st.data(), _LINE_ENDS)
def test_any_mixture_of_lines_is_filled_in_and_otherwise_kept(data: st.DataObject, line_end: str) -> None:
    parts = []
    for name in VALUES:
        parts += [*data.draw(st.lists(_OTHER_LINES, max_size=3)), data.draw(_ASSIGNMENTS).format(name)]
    before = "\n".join(parts).replace("\n", line_end).encode()
    filled = token_gen.fill_in(before, VALUES)
    old, new = values_of(before), values_of(filled)
    assert VALUES.items() <= new.items()
    assert all(new[name] == old[name] for name in old.keys() - VALUES.keys() - {"__builtins__"})
    # Replacing is exact: going to other values and back changes nothing.
    others = {name: text + " é" for name, text in VALUES.items()}
    assert token_gen.fill_in(token_gen.fill_in(filled, others), VALUES) == filled
