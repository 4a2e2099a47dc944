"""The distributor: gives stored files and BlurHashes out."""

from open_workshop_storage.api.routes import blurhashes, downloads
from open_workshop_storage.service_factory import create_app

PREFIX = "/distributor"
ROUTERS = (downloads.router, blurhashes.router)

app = create_app(
    title="Open Workshop distributor",
    description="Gives stored files out, tells what is in archives, and BlurHashes of stored images.",
    prefix=PREFIX,
    routers=ROUTERS,
    loads=False,
    shortcuts=downloads.SHORTCUTS,
)
