"""The console's page and the files that it loads (docs/API.md, "Console")."""

from __future__ import annotations

import re
from importlib import resources

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse

from open_workshop_storage.api.routes.console import require_console
from open_workshop_storage.core.errors import NothingHere

_FOLDER = resources.files("open_workshop_storage") / "console"
_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
_NAME = re.compile(rf"[a-z-]{{1,32}}\.({'|'.join(_TYPES)})")
_HEADERS = {
    # Nothing of other hosts, nothing inline, and no script that is made of text (Content Security Policy Level 3).
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    # Another version of the service has other files.
    "Cache-Control": "no-cache",
}

router = APIRouter(prefix="/loader/console", dependencies=[Depends(require_console)], include_in_schema=False)


@router.api_route("", methods=["GET", "HEAD"])
async def page() -> FileResponse:
    """Send the page. It holds no secret: what it asks for needs a token."""
    return _answer("index.html", "html")


@router.api_route("/{name}", methods=["GET", "HEAD"])
def file(name: str) -> FileResponse:
    """Send a file that the page loads.

    Raises:
        NothingHere: It has no such file.
    """
    match = _NAME.fullmatch(name)
    if match is None or not (_FOLDER / name).is_file():
        raise NothingHere
    return _answer(name, match[1])


def _answer(name: str, ending: str) -> FileResponse:
    return FileResponse(str(_FOLDER / name), headers=_HEADERS, media_type=_TYPES[ending])
