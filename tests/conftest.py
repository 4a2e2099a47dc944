"""Fixtures that all tests share."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from open_workshop_storage.services.storage.bucket_requests import Credentials
from tests.support.blocking import permit
from tests.support.clamd import PROGRAM, Clamd, running_clamd
from tests.support.client import PATIENCE_SECONDS
from tests.support.object_store import ObjectStore, running_object_store
from tests.support.origins import CERTIFICATE
from tests.support.servers import redis_server
from tests.support.services import Services, running_services

LOG_CHARACTERS_SHOWN = 5000
FIRST = ("test_two_hosts.py", "test_chaos.py", "test_takeover.py", "test_hosts.py")
"""Modules with a test of 40 seconds or more: at the end, one process would run it while the others have none left."""

# `make fuzz` chooses it.
settings.register_profile("fuzz", max_examples=10_000, deadline=None)


class ServiceStarter:
    """Starts services that run until the test ends; takes what `running_services` takes, but for the folder."""

    def __init__(self, folders: pytest.TempPathFactory, stack: ExitStack) -> None:
        self.started: list[Services] = []
        self._folders = folders
        self._stack = stack

    def __call__(self, *arguments: Any, **keywords: Any) -> Services:
        folder = self._folders.mktemp("special-services")
        self.started.append(self._stack.enter_context(running_services(folder, *arguments, **keywords)))
        return self.started[-1]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage meanwhile, nor look through what stays later: it would take each process a third longer."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules of `FIRST`."""
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the services printed when a test that uses them fails."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for value in item.funcargs.values():
            used = value.started if isinstance(value, ServiceStarter) else [value]
            for running in used:
                if isinstance(running, Services):
                    for name, server in running.servers.items():
                        report.sections.append((f"end of the {name}'s log", server.output()[-LOG_CHARACTERS_SHOWN:]))
    # pytest-xdist sends reports in UTF-8.
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run `async def` tests on asyncio only, as the services do."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def only_origins_are_trusted() -> Iterator[None]:
    """Trust the origins' certificate alone: each client and each service would take 50 ms to load the usual ones."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        yield


@pytest.fixture(autouse=True)
def event_loop_guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail an `async def` test in whose event loop a module of ours blocks."""
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    with blockbuster_ctx("open_workshop_storage") as blockbuster:
        permit(blockbuster)
        yield


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own, empty at the start of the session."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3-compatible store of our own, without buckets at the start of the session."""
    with running_object_store(tmp_path_factory.mktemp("object-store")) as store:
        yield store


@pytest.fixture(scope="session")
def bucket(object_store: ObjectStore) -> Credentials:
    """A bucket of it, for tests that put all below a prefix of their own."""
    return object_store.bucket()


@pytest.fixture(scope="session")
def clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clamd]:
    """A malware scanner of our own; a test that ends it starts it again."""
    if PROGRAM is None:
        pytest.skip("clamd is not installed: Debian's package clamav-daemon")
    with running_clamd(tmp_path_factory.mktemp("clamd")) as running:
        yield running


@pytest.fixture(scope="session")
def services_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Both services with their usual settings, which keep jobs in memory."""
    with running_services(tmp_path_factory.mktemp("services-memory")) as running:
        yield running


@pytest.fixture(scope="session")
def services_redis(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Services]:
    """Both services with their usual settings, which keep jobs in Redis."""
    with running_services(tmp_path_factory.mktemp("services-redis"), redis_url) as running:
        yield running


@pytest.fixture(scope="session", params=["memory", "redis"])
def services(request: pytest.FixtureRequest) -> Services:
    """Both services with their usual settings: every test that uses them runs once for each job store."""
    running: Services = request.getfixturevalue(f"services_{request.param}")
    return running


@pytest.fixture
def start_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceStarter]:
    """Starts services with settings of the test's own, and ends them with the test."""
    with ExitStack() as stack:
        yield ServiceStarter(tmp_path_factory, stack)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that follows no redirects and sends no cookies unless told."""
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        yield client
