"""The loader: takes files in."""

from open_workshop_storage.api.routes import files, progress, transfers
from open_workshop_storage.service_factory import Service, create_app

ROUTERS = (files.router, transfers.router, progress.router)

app = create_app(
    Service(
        title="Open Workshop loader",
        prefix="/loader",
        routers=ROUTERS,
        loads=True,
        health_prefixes=["/loader"],
    )
)
