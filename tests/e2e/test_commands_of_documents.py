"""The commands that the documents tell people to type, typed."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.support.servers import GRANIAN, PROJECT, clean_environment, free_port
from tests.support.services import Services

COMMAND_SECONDS = 250
"""After this long without an end a command has failed."""
COPIED = ("Makefile", "pyproject.toml", "requirements.txt", "ow_config_sample.py", "token_gen.py", "src", "deploy")
STARTED = re.compile(r"^(\.venv/bin/granian .*)$", re.MULTILINE)
PLAIN_TOKEN = 'token="$(sed -n "s/.*storage_manage_token[^A-Za-z0-9_-]*//p" printed | head -n 1 | tr -d "\'\\", ")"'

OUR_PROGRAM = re.compile(r"PYTHONPATH=src:\. \.venv/bin/python -m (?P<module>tests\.\w+|benchmarks) (?P<arguments>.*)")
SHELL_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
BY_HAND = "A first transfer by hand"
ONE_FILE_OF_TESTS = ".venv/bin/python -m pytest tests/auth/test_json_web_tokens.py"
TYPED = {
    # In the README's transfer, which is typed whole.
    "make setup",
    ".venv/bin/python token_gen.py --write ow_config.py",
    "make format",
    ONE_FILE_OF_TESTS,
    "ow() {*",
    "ow doctor",
    "ow status",
    "ow status --json",
    "ow jobs",
    "ow verify",
    "ow digests",
}
"""What the tests of this module type; here and below, as patterns."""
STOPPED_EARLY = {
    "make demo": "--help",
    "make demo STORAGE=s3": "--help",
    "make demo FILE=path/to/archive.7z": "--help",
    "make chaos": "--help",
    "make chaos SEED=7": "--help",
    "make chaos FAILOVERS=1": "--help",
    "make chaos SCANNER=1": "--help",
    "make chaos STORAGE=s3": "--help",
    "PYTHONPATH=src:. .venv/bin/python -m tests.chaos --short --seed 7": "--help",
    "make test-fast": "--numprocesses 0 --collect-only --quiet tests/auth",
    "make coverage": "--numprocesses 0 --collect-only --quiet --cov-report= tests/auth",
    "make fuzz": "--collect-only --quiet --ignore=tests/fuzz/test_api.py",
    "make bench": "--help",
    "make bench GROUPS=small-files": "--help",
}
"""What would take minutes, with the option that has it end at once."""
CI = "run each time by .ci/run"
ROOT = "changes the machine, as root"
ITS_MACHINE = "asks a machine that was set up so"
NOT_TYPED = {
    "make test": CI,
    "make test-python": "takes minutes, and a Python that a machine need not have",
    "make test-browser": CI,
    "make lint": CI,
    "make type-check": CI,
    ".venv/bin/python -m pytest": "the same as make test",
    "apt-get update": ROOT,
    "apt-get install --no-install-recommends *": ROOT,
    "adduser --system --group --no-create-home --home *": ROOT,
    "adduser www-data open-workshop": ROOT,
    "adduser open-workshop clamav": ROOT,
    "git clone https://*": "has no address yet",
    "make -C /opt/open-workshop-storage setup-runtime": ROOT,
    "cd /opt/open-workshop-storage && git pull && make setup-runtime": ROOT,
    "cd /opt/open-workshop-storage": ITS_MACHINE,
    "install -d -o * /srv/open-workshop/storage": ROOT,
    "install -d -o * /etc/open-workshop": ROOT,
    ".venv/bin/python token_gen.py --write /etc/open-workshop/ow_config.py": ROOT,
    "chown root:open-workshop /etc/open-workshop/ow_config.py": ROOT,
    "chmod 640 /etc/open-workshop/ow_config.py": ROOT,
    "cp deploy/*": ROOT,
    "echo WATCHDOG_HEALTH_URL=* > /etc/open-workshop/watchdog-*.env": ROOT,
    "systemctl daemon-reload": ROOT,
    "systemctl enable --now open-workshop-*": ROOT,
    "systemctl start open-workshop-*": ROOT,
    "systemctl stop *": ROOT,
    "systemctl restart *": ROOT,
    "systemctl reload nginx": ROOT,
    "systemctl disable": ROOT,
    "systemctl edit open-workshop-distributor": ROOT,
    "certbot *--nginx*": ROOT,
    "ln -s ../sites-available/open-workshop /etc/nginx/sites-enabled/": ROOT,
    "nginx -t && systemctl reload nginx": ROOT,
    "sed -i * /etc/redis/*.conf": ROOT,
    "echo *AlertExceedsMax* >> /etc/clamav/clamd.conf": ROOT,
    "sed -i * /etc/clamav/clamd.conf": ROOT,
    "until ls /var/lib/clamav/*": ITS_MACHINE,
    "echo *replicaof * >> /etc/redis/redis.conf": ROOT,
    "echo *sentinel auth-pass * >> /etc/redis/sentinel.conf": ROOT,
    "sed -i * /etc/nginx/nginx.conf": ROOT,
    "sed -i * /etc/nginx/sites-available/open-workshop": ROOT,
    "sed * deploy/nginx-site.conf > /etc/nginx/sites-available/open-workshop": ROOT,
    "curl *readyz": ITS_MACHINE,
    "rclone copy /srv/open-workshop/storage *": "moves a store; was typed by hand, against SeaweedFS",
    "journalctl -u *": ITS_MACHINE,
    "ow scan": "run in process by tests/e2e/test_operator_commands.py, which has a scanner",
    "rsync -a --exclude temp": "a part of a command",
    "open-workshop-storage doctor": "a short name of ow doctor",
    "open-workshop-storage status --json": "a longer name of ow status --json",
    "open-workshop-storage redeliver JTI": "run in process by tests/e2e/test_operator_commands.py",
    "open-workshop-storage cancel JOB": "run in process by tests/e2e/test_operator_commands.py",
    "ow redeliver JTI": "the same",
    "ow cancel JOB": "the same",
    "make setup-runtime": ROOT,
    ".venv/bin/pre-commit install": "changes what git does",
    "make screenshots": "takes minutes, and writes the pictures anew",
    "make lock": "asks the package index",
    "make lock UPGRADE=--upgrade": "asks the package index",
    "pip install .": "typed by tests/deploy/test_package.py",
}
"""What is not typed, and why. All of the deployment was followed by hand on an empty Debian."""
INLINE_ONLY = {"journalctl", "rsync", "open-workshop-storage", "pip", ".venv/bin/pre-commit"}
"""First words of commands that stand in no block of their own."""


def commands(document: str, heading: str) -> str:
    """Return all shell commands below a heading."""
    section = (PROJECT / document).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(SHELL_BLOCK.findall(section))


def commands_of_all_documents() -> set[str]:
    """Return every line of the blocks for shells, and what reads like a command within lines."""
    blocks, inline = set(), set()
    for document in (*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")):
        before, by_hand, after = document.read_text().partition(f"\n## {BY_HAND}\n")
        text = before + "\n## " + after.partition("\n## ")[2] if by_hand else before
        for block in SHELL_BLOCK.findall(text):
            lines = (re.sub(r"\s+# .*", "", line) for line in block.splitlines())
            blocks |= {line for line in lines if line}
        code = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        inline |= {" ".join(words) for words in map(str.split, code) if len(words) > 1}
    first_words = {command.split()[0] for command in blocks} | INLINE_ONLY
    return blocks | {command for command in inline if command.split()[0] in first_words}


def checkout(folder: Path, *names: str) -> Path:
    """Return a fresh checkout of these files and folders whose `make setup` finds all installed."""
    for name in names:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy2(source, folder / name)
    (folder / ".venv").symlink_to((PROJECT / ".venv").resolve())
    return folder


def run(command: str, folder: Path = PROJECT) -> str:
    """Type a command and return what it prints; it has to end well."""
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_first_transfer_by_hand_works_as_the_readme_says(tmp_path: Path) -> None:
    typed = commands("README.md", BY_HAND)
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
    folder = checkout(tmp_path, *COPIED)
    run(f"set -e\ntouch log\ntrap 'kill $(jobs -p); wait; cat log' EXIT\n{typed}", folder)
    with zipfile.ZipFile(folder / "hello.zip") as archive:
        assert archive.read("hello.txt") == b"hello\n"


def test_each_command_is_typed_or_listed_with_the_reason() -> None:
    known = {*TYPED, *STOPPED_EARLY, *NOT_TYPED}
    found = sorted(commands_of_all_documents())
    unknown = [command for command in found if not any(fnmatchcase(command, pattern) for pattern in known)]
    assert unknown == []
    assert [pattern for pattern in known if not any(fnmatchcase(command, pattern) for command in found)] == []
    for path in re.findall(r"\bdeploy/\S+", "\n".join(found)):
        assert list(PROJECT.glob(path)), path
    ci = (PROJECT / ".ci" / "run").read_text()
    run_by_ci = [command for command, reason in NOT_TYPED.items() if reason is CI]
    assert run_by_ci and all(command.removeprefix("make ") in ci for command in run_by_ci)


@pytest.mark.parametrize("command", STOPPED_EARLY)
def test_what_takes_long_begins(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = run(f"{command} --dry-run") if command.startswith("make ") else command
    last = f"{shown.strip().splitlines()[-1]} {STOPPED_EARLY[command]}"
    ours = OUR_PROGRAM.fullmatch(last)
    if ours is None:
        run(last)
        return
    # In this process: to start and import it takes two seconds of a core.
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(sys, "argv", [ours["module"], *shlex.split(ours["arguments"])])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(ours["module"], run_name="__main__")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for group in re.findall(r"GROUPS=(\S+)", command):
        assert group in printed


def test_one_file_of_tests_can_be_run() -> None:
    assert " passed" in run(ONE_FILE_OF_TESTS)


def test_make_format_formats(tmp_path: Path) -> None:
    folder = checkout(tmp_path, "Makefile", "requirements.txt", "pyproject.toml", "deploy")
    sources = [folder / name for name in ("src/a.py", "tests/a.py", "benchmarks/a.py", "docs/examples/a.py")]
    sources += [folder / name for name in ("ow_config_sample.py", "token_gen.py", "watchdog.py")]
    for source in sources:
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("import sys\nimport os\nx = 'y'\n")
    run("make format", folder)
    assert {source.read_text() for source in sources} == {'import os\nimport sys\n\nx = "y"\n'}


@pytest.mark.parametrize("services", ["redis"], indirect=True)
def test_the_operators_commands_work_as_the_deployment_says(services: Services) -> None:
    document = (PROJECT / "docs" / "DEPLOYMENT.md").read_text()
    (function,) = re.findall(r"^ow\(\) .*$", document, re.MULTILINE)
    # The tests have neither that user nor that file.
    function, users = re.subn(r"setpriv .*--init-groups ", "", function)
    config = services.main_dir.parent / "ow_config.py"
    function, files = re.subn(r"/etc/open-workshop/ow_config\.py", str(config), function)
    function, commands = re.subn(r"/opt/open-workshop-storage/", f"{PROJECT}/", function)
    assert (users, files, commands) == (1, 1, 1)
    assert "ok       MANAGER_URL: answers" in run(f"{function}\now doctor")
    for command in ("verify", "digests"):
        assert "ok       digests: " in run(f"{function}\now {command}")
    assert "Slots: upload" in run(f"{function}\now status")
    assert '"slots": [' in run(f"{function}\now status --json")
    assert run(f"{function}\now jobs")
