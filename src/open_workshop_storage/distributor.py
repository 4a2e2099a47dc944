"""The distributor: gives stored files and BlurHashes out."""

from starlette.middleware import Middleware

from open_workshop_storage.api.routes import blurhashes, downloads
from open_workshop_storage.service_factory import Service, create_app

PREFIX = "/distributor"
ROUTERS = (downloads.router, blurhashes.router)
SHORTCUTS = (Middleware(downloads.DownloadEndpoint),)

app = create_app(
    Service(
        title="Open Workshop distributor",
        description="Gives stored files out, and BlurHashes of stored images.",
        prefix=PREFIX,
        routers=ROUTERS,
        loads=False,
        health_prefixes=[PREFIX],
        shortcuts=SHORTCUTS,
    )
)
