"""Both services in one process, for small installations and development."""

from open_workshop_storage import distributor, loader
from open_workshop_storage.api.documents.swagger import document_routes
from open_workshop_storage.api.routes import downloads
from open_workshop_storage.service_factory import create_app

app = create_app(
    title="Open Workshop storage",
    description="Both services in one process: gives files out and takes them in. The progress of transfers comes "
    "over the WebSocket `/transfer/ws/{job_id}?token=…`, as `ProgressMessage` among the schemas.",
    prefix="",
    routers=[*distributor.ROUTERS, *loader.ROUTERS],
    loads=True,
    protocols=loader.PROTOCOLS,
    shortcuts=[*downloads.SHORTCUTS, *loader.SHORTCUTS],
    health_prefixes=[distributor.PREFIX, loader.PREFIX],
)
# Pages link to the documents of each service on the one address that they know.
for service in (distributor, loader):
    app.router.routes.extend(document_routes(service.app, service.PREFIX))
