"""The Swagger page of a service, complete without any other host.

Visitors paste tokens into it, so no script of a third party runs there. It also works without internet access.
"""

from __future__ import annotations

from importlib import resources

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

_SCRIPT = "swagger-ui-bundle.js"
_STYLE = "swagger-ui.css"
_ICON = "favicon-32x32.png"


def swagger_routes(title: str, prefix: str) -> list[BaseRoute]:
    """Return the page `<prefix>/` for the document `<prefix>/openapi.json`, and the files that the page loads."""

    async def page(request: Request) -> Response:
        root = request.scope.get("root_path", "") + prefix
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=title,
            swagger_js_url=f"{root}/swagger/{_SCRIPT}",
            swagger_css_url=f"{root}/swagger/{_STYLE}",
            swagger_favicon_url=f"{root}/swagger/{_ICON}",
            swagger_ui_parameters={"tryItOutEnabled": True},
        )

    return [
        Route(f"{prefix}/", page),
        *(Route(f"{prefix}/swagger/{name}", _send_file) for name in (_SCRIPT, _STYLE, _ICON)),
    ]


def document_routes(app: FastAPI, prefix: str) -> list[BaseRoute]:
    """Return the page and the document of another app, for one that does its work too."""

    async def document(request: Request) -> Response:
        return JSONResponse(app.openapi())

    return [*swagger_routes(app.title, prefix), Route(f"{prefix}/openapi.json", document)]


async def _send_file(request: Request) -> Response:
    # Of this package only the files of Swagger UI are used.
    folder = resources.files("fastapi_swagger") / "resources"
    return FileResponse(str(folder / request.url.path.rpartition("/")[2]))
