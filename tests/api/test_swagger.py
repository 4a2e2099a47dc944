"""The documents that the apps show."""

from __future__ import annotations

import httpx
import pytest

from open_workshop_storage import app, distributor, loader

pytestmark = pytest.mark.anyio

APPS = {"": app.app, "/distributor": distributor.app, "/loader": loader.app}


@pytest.mark.parametrize("prefix", APPS)
async def test_the_combined_app_shows_the_documents_of_both_services(prefix: str) -> None:
    transport = httpx.ASGITransport(app.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://storage") as client:
        page = await client.get(f"{prefix}/")
        assert f"url: '{prefix}/openapi.json'" in page.text
        assert (await client.get(f"{prefix}/swagger/swagger-ui.css")).status_code == 200
        assert (await client.get(f"{prefix}/openapi.json")).json() == APPS[prefix].openapi()
