"""A plugin of pytest for `make test-fast`: a test that starts a process ends there, and counts as skipped."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

SERVICES = frozenset({"chaos", "deploy", "e2e", "fuzz"})
"""Folders below `tests/` whose tests run services; they are not even imported."""
TESTS = Path(__file__).resolve().parents[1]
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})
_REASON = "starts a process"
_MOST_CASES = 3
"""When so many cases of a test have started a process, the rest of them is not begun."""
_running: list[pytest.Item] = []
_starting: set[pytest.Item] = set()
_refused: Counter[tuple[Path, str]] = Counter()
_cancels: list[Callable[[], object]] = []


class StartsProcess(RuntimeError):
    """What is run starts a process."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the folders whose tests run services."""
    return True if collection_path.parent == TESTS and collection_path.name in SERVICES else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Watch a test with its fixtures."""
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Do not begin what is known to end in a refusal, since many cases make large archives first; nor fail for it."""
    if _refused[_test_of(item)] >= _MOST_CASES:
        pytest.skip(_REASON)
    try:
        return (yield)
    except Exception as error:
        # Fixtures of several tests raise again what they raised for the first.
        if item not in _starting and not isinstance(error, StartsProcess):
            raise
    pytest.skip(_REASON)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Make an async test one that can be cancelled: it may wait for what the process would have done."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _cancellable(pyfuncitem.obj)
    try:
        return (yield)
    except (Exception, pytest.fail.Exception):
        if pyfuncitem not in _starting:
            raise
    finally:
        _refused[_test_of(pyfuncitem)] += pyfuncitem in _starting
    pytest.skip(_REASON)


def _test_of(item: pytest.Item) -> tuple[Path, str]:
    return item.path, getattr(item, "originalname", item.name)


def _cancellable(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    @functools.wraps(test)
    async def cancellable(**fixtures: object) -> None:
        running = asyncio.create_task(test(**fixtures))
        _cancels[:] = [functools.partial(asyncio.get_running_loop().call_soon_threadsafe, running.cancel)]
        try:
            # Not the test's own error: what a cancelled task raises ends anyio's runner of all tests.
            await asyncio.wait([running])
            if running.cancelled():
                raise StartsProcess
            running.result()
        finally:
            _cancels.clear()

    return cancellable


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a test as skipped if it or a fixture of it starts a process; the code under test may catch the refusal."""
    report = yield
    if item in _starting and (report.failed or report.when == "call"):
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, _REASON)
    elif call.excinfo is not None and call.excinfo.errisinstance(StartsProcess):
        # By a task of a test before this one; only now asyncio has found that nobody asks how that ended.
        report.outcome, report.longrepr = "passed", None
    return report


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if event in _STARTS and _running:
        _starting.add(_running[0])
        for cancel in _cancels:
            cancel()
        raise StartsProcess


sys.addaudithook(_refuse)
