"""The commands that the documents tell people to type, typed."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from tests.support.client import PATIENCE_SECONDS
from tests.support.servers import GRANIAN, PROJECT, clean_environment, free_port

COPIED = ("Makefile", "requirements.txt", "ow_config_sample.py", "token_gen.py", "src", "deploy")
STARTED = re.compile(r"^(\.venv/bin/granian .*)$", re.MULTILINE)
PLAIN_TOKEN = 'token="$(sed -n "s/.*storage_manage_token[^A-Za-z0-9_-]*//p" printed | head -n 1 | tr -d "\'\\", ")"'


def commands(document: str, heading: str) -> str:
    """Return all shell commands below a heading."""
    section = (PROJECT / document).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


def checkout(folder: Path) -> Path:
    """Return a fresh checkout whose `make setup` finds all installed."""
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    (folder / ".venv").symlink_to((PROJECT / ".venv").resolve())
    return folder


def test_the_first_transfer_by_hand_works_as_the_readme_says(tmp_path: Path) -> None:
    typed = commands("README.md", "A first transfer by hand")
    for port in ("8000", "8001", "9000", "9001"):
        typed = re.sub(rf"(127\.0\.0\.1:|--port ){port}\b", rf"\g<1>{free_port()}", typed)
    assert all(" ".join(GRANIAN[1:]) in command for command in STARTED.findall(typed))
    # Each service has a terminal of its own, and the reader copies what token_gen.py printed.
    typed, services = STARTED.subn(r"\1 >>log 2>&1 &", typed)
    typed, generators = re.subn(r"(token_gen\.py --write ow_config\.py).*", r"\1 | tee printed", typed)
    typed, tokens = re.subn(r"-d token=…", f"-d {PLAIN_TOKEN}", typed)
    assert (services, generators, tokens) == (2, 1, 1)
    waiting = 'until curl --silent --output /dev/null "$url"; do sleep 0.1; done'
    for port in re.findall(r"granian .*--port (\d+)", typed):
        typed = typed.replace("TOKEN=$(", f"url=http://127.0.0.1:{port}/; {waiting}\nTOKEN=$(", 1)
    script = f"set -e\ntrap 'kill $(jobs -p); wait' EXIT\n{typed}"
    folder = checkout(tmp_path)
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    log = (folder / "log").read_text() if (folder / "log").exists() else ""
    assert result.returncode == 0, result.stdout + result.stderr + log
    with zipfile.ZipFile(folder / "hello.zip") as archive:
        assert archive.read("hello.txt") == b"hello\n"


def test_every_make_target_that_the_documents_name_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))):
        named = set(re.findall(r"(?:^|`)make(?: -C \S+)? ([a-z-]+)", document.read_text(), re.MULTILINE))
        assert named <= targets, document.name
