"""What each service shows of itself: prefixes, docs, health, readiness, CORS."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter

from open_workshop_storage.service_factory import create_app
from tests.conftest import ServiceStarter
from tests.support.client import raw_request, upload
from tests.support.mounts import skipping_if_refused
from tests.support.servers import free_port
from tests.support.services import Services
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.anyio

PREFIXES = {"loader": "/loader", "distributor": "/distributor"}
METHODS = "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS"
EXPOSED = {"content-disposition", "content-range", "etag", "x-unpacked-bytes", "retry-after"}

OWN_PATHS = {
    "distributor": {"/download/{type}/{path}"},
    "loader": {"/transfer/upload", "/transfer/move"},
}
FOREIGN_PATHS = {
    "distributor": ["/transfer/start", "/transfer/upload", "/transfer/move", "/loader/", "/loader/healthz"],
    "loader": ["/download/archive/mods/7/main.zip", "/distributor/", "/distributor/healthz"],
}
NOBODYS_PATHS = ["/", "/healthz", "/readyz", "/openapi.json", "/docs", "/redoc", "/nonsense"]


def listed(value: str) -> set[str]:
    return {item.strip() for item in value.split(",")}


@pytest.mark.parametrize("app", PREFIXES)
async def test_health_and_readiness_are_under_the_prefix(app: str, services: Services, http: httpx.AsyncClient) -> None:
    base = services.servers[app].url + PREFIXES[app]
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        answer = await http.get(base + path)
        assert (answer.status_code, answer.json()) == (200, {"status": status})


@pytest.mark.parametrize("app", PREFIXES)
async def test_swagger_page_and_openapi_document_are_under_the_prefix(
    app: str, services: Services, http: httpx.AsyncClient
) -> None:
    base = services.servers[app].url + PREFIXES[app]
    page = await http.get(f"{base}/")
    assert page.status_code == 200
    assert "swagger" in page.text.lower() and f"{PREFIXES[app]}/openapi.json" in page.text
    document = (await http.get(f"{base}/openapi.json")).json()
    documented = {path.replace("{path:path}", "{path}") for path in document["paths"]}
    assert OWN_PATHS[app] <= documented
    assert not documented & set().union(*(paths for other, paths in OWN_PATHS.items() if other != app))


@pytest.mark.parametrize("app", PREFIXES)
async def test_what_belongs_to_the_other_service_or_to_none_is_a_plain_404(
    app: str, services: Services, http: httpx.AsyncClient
) -> None:
    for path in FOREIGN_PATHS[app] + NOBODYS_PATHS:
        answer = await http.get(services.servers[app].url + path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"].startswith("text/plain"), path
        assert "{" not in answer.text


@pytest.mark.parametrize(
    ("app", "method", "path", "status"),
    [
        ("loader", "GET", "/loader/healthz", 200),
        ("loader", "POST", "/transfer/upload", 401),
        ("loader", "PUT", "/transfer/upload", 405),
        ("loader", "GET", "/nonsense", 404),
        ("distributor", "GET", "/distributor/", 200),
        ("distributor", "GET", "/download/nonsense/x", 400),
        ("distributor", "DELETE", "/download/archive/x", 405),
    ],
)
async def test_every_answer_may_be_read_by_any_origin(
    app: str, method: str, path: str, status: int, services: Services, http: httpx.AsyncClient
) -> None:
    url = services.servers[app].url + path
    for origin in ("https://mods.example", "null", "file://", 'https://x.example"><script>', "a" * 10_000, None):
        answer = await http.request(method, url, headers={} if origin is None else {"Origin": origin})
        assert answer.status_code == status
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        assert EXPOSED <= listed(answer.headers["access-control-expose-headers"].lower())
        assert "access-control-allow-credentials" not in answer.headers
        # And browsers take it for what it is, and keep its address to themselves.
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert answer.headers.get_list("referrer-policy") == ["no-referrer"]


@pytest.mark.parametrize("path", ["/transfer/upload", "/loader/healthz", "/nonsense"])
async def test_a_preflight_allows_any_header_and_all_methods(
    path: str, services: Services, http: httpx.AsyncClient
) -> None:
    asked = {
        "Origin": "https://mods.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,x-file-name,x-never-heard-of",
    }
    answer = await http.options(services.loader + path, headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == METHODS
    assert listed(asked["Access-Control-Request-Headers"]) <= listed(answer.headers["access-control-allow-headers"])


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (b"", "*"),
        (b"Access-Control-Request-Headers: \r\n", "*"),
        (b"Access-Control-Request-Headers: a\r\nAccess-Control-Request-Headers: b\r\n", "a, b"),
        (b"Access-Control-Request-Headers: \xff\r\n", "\xff"),
        (b"Access-Control-Request-Private-Network: true\r\nOrigin: null\r\n", "*"),
    ],
)
async def test_an_odd_preflight_is_answered_all_the_same(asked: bytes, allowed: str, services: Services) -> None:
    answer = await raw_request(services.loader, b"OPTIONS /transfer/upload HTTP/1.1\r\nHost: s\r\n" + asked + b"\r\n")
    assert (answer.status, answer.headers["access-control-allow-headers"]) == (200, allowed)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert not {"access-control-allow-credentials", "access-control-allow-private-network"} & answer.headers.keys()


async def test_a_fault_of_the_service_may_be_read_by_any_origin() -> None:
    router = APIRouter()

    @router.get("/fault", tags=["health"])
    async def fault() -> None:
        raise RuntimeError("token=secret")

    app = create_app("Faulty", "", "", [router], loads=False)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://storage") as http:
        answer = await http.get("/fault")
    assert (answer.status_code, answer.text) == (500, "Internal server error")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_readiness_names_all_that_is_missing(start_services: ServiceStarter, http: httpx.AsyncClient) -> None:
    services = start_services(
        environment={"PATH": "/nonexistent", "REDIS_URL": f"redis://127.0.0.1:{free_port()}"},
        STORAGE_RESERVE_BYTES=2**60,
    )
    loader = await http.get(f"{services.loader}/loader/readyz")
    assert (loader.status_code, loader.json()["status"]) == (503, "unavailable")
    assert sorted(loader.json()["missing"]) == ["7z", "disk", "redis"]
    distributor = await http.get(f"{services.distributor}/distributor/readyz")
    assert (distributor.status_code, distributor.json()) == (503, {"status": "unavailable", "missing": ["redis"]})

    services.main_dir.rename(services.main_dir.with_name("away"))
    for url in (f"{services.loader}/loader", f"{services.distributor}/distributor"):
        assert "storage" in (await http.get(f"{url}/readyz")).json()["missing"]
        assert (await http.get(f"{url}/healthz")).status_code == 200


async def test_a_file_waits_with_503_for_a_storage_root_that_cannot_be_written(
    start_services: ServiceStarter, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    with skipping_if_refused(), small_disk(tmp_path / "root") as disk:
        services = start_services(apps=["loader"], MAIN_DIR=str(disk.folder))
        subprocess.run(["mount", "-o", "remount,ro", disk.folder], check=True)
        assert (await http.get(f"{services.loader}/loader/readyz")).json()["missing"] == ["storage"]
        form = {"token": services.secrets.upload_file, "type": "resource", "path": "a.bin"}
        answer = await http.post(f"{services.loader}/upload", data=form, files={"file": b"any"})
    assert (answer.status_code, answer.text) == (503, "Service unavailable")
    assert int(answer.headers["retry-after"]) > 0


async def test_the_combined_app_serves_both_route_sets_without_a_prefix(
    start_services: ServiceStarter, http: httpx.AsyncClient
) -> None:
    services = start_services(apps=["app"])
    base = services.servers["app"].url
    for path in ("/healthz", "/loader/healthz", "/distributor/healthz"):
        assert (await http.get(base + path)).json() == {"status": "ok"}
    assert (await http.get(f"{base}/readyz")).json() == {"status": "ready"}
    assert "swagger" in (await http.get(f"{base}/")).text.lower()
    documented = {
        path.replace("{path:path}", "{path}") for path in (await http.get(f"{base}/openapi.json")).json()["paths"]
    }
    assert set().union(*OWN_PATHS.values()) <= documented
    operator = {"Authorization": f"Bearer {services.secrets.storage_manage_token}"}
    assert len((await http.get(f"{base}/loader/status", headers=operator)).json()["slots"]) == 4

    ticket = services.ticket()
    assert (await upload(http, base, ticket.token, b"any other file", "notes.txt")).status_code == 200
    assert (await http.get(f"{base}/download/{ticket.path}")).status_code == 200
