"""A plugin of pytest for `make test-fast`: only tests that start no process, and a failure of those that do."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

FOLDERS = frozenset({"chaos", "deploy", "e2e", "fuzz"})
FILES = frozenset(
    {
        "archives/test_archives.py",
        "archives/test_central_directory.py",
        "archives/test_kept_zips.py",
        "archives/test_refused_archives.py",
        "archives/test_repacked_archives.py",
        "archives/test_seven_zip.py",
        "archives/test_zip_headers.py",
        "images/test_blurhashes.py",
        "images/test_images.py",
        "processes/test_confinement.py",
        "processes/test_granian.py",
        "processes/test_python_children.py",
        "transfers/test_stages.py",
        "downloads/test_downloads.py",
        "intake/test_own_network.py",
        "transfers/test_transfers.py",
        "test_token_gen.py",
        "test_watchdog.py",
    }
)
"""Below `tests/`: what starts processes in most of its tests, or when it is imported."""
FUNCTIONS = frozenset(
    {
        "test_a_body_that_is_given_up_ends_no_sooner_than_what_is_being_written",
        "test_a_form_that_is_refused_leaves_nothing",
        "test_a_full_disk_is_told_and_nothing_is_left_on_it",
        "test_a_queued_job_is_taken_at_once",
        "test_a_repack_takes_the_place_of_the_packed_file",
        "test_an_image_becomes_a_webp",
        "test_an_image_is_normalised",
        "test_an_image_of_too_many_pixels_is_refused",
        "test_each_heading_that_the_code_names_is_there",
        "test_nothing_but_the_file_is_left",
        "test_of_two_repacks_of_one_file_the_last_one_counts",
        "test_what_a_killed_copy_left_is_never_found_and_goes_with_the_cleanup",
        "test_what_is_wrong_is_said",
    }
)
"""Single tests of other files that start one."""
FIXTURES = frozenset({"redis_url", "services", "start_services"})
TESTS = Path(__file__).resolve().parents[1]
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})
_running: list[str] = []


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out folders and files."""
    path = collection_path.relative_to(TESTS).as_posix() if collection_path.is_relative_to(TESTS) else ""
    return True if path in FOLDERS | FILES else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out single tests."""
    functions = [item for item in items if isinstance(item, pytest.Function)]
    starting = [
        item
        for item in functions
        if FIXTURES.intersection(item.fixturenames) or "redis" in item.name or item.originalname in FUNCTIONS
    ]
    config.hook.pytest_deselected(items=starting)
    items[:] = [item for item in items if item not in starting]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Watch a test with its fixtures."""
    _running.append(item.nodeid)
    try:
        return (yield)
    finally:
        _running.clear()


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if _running and event in _STARTS:
        raise RuntimeError(f"{_running[0]} starts a process: name it in tests/support/fast.py")


sys.addaudithook(_refuse)
