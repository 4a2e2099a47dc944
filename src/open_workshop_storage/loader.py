"""The loader: takes files in."""

from starlette.middleware import Middleware

from open_workshop_storage.api.routes import console, files, progress, resumable, transfers
from open_workshop_storage.service_factory import create_app

PREFIX = "/loader"
ROUTERS = (
    files.router,
    transfers.router,
    resumable.router,
    progress.router,
    console.router,
)
PROTOCOLS = (Middleware(resumable.TusProtocol),)
SHORTCUTS = (*progress.SHORTCUTS, resumable.SHORTCUT)

app = create_app(
    title="Open Workshop loader",
    description="Takes files in: single ones from the Manager, and transfers from browsers and URLs. Their "
    "progress comes over the WebSocket `/transfer/ws/{job_id}?token=…`, as `ProgressMessage` among the schemas.",
    prefix=PREFIX,
    routers=ROUTERS,
    loads=True,
    protocols=PROTOCOLS,
    shortcuts=SHORTCUTS,
)
