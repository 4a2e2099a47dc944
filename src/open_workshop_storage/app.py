"""Both services in one process, for small installations and development."""

from open_workshop_storage import distributor, loader
from open_workshop_storage.service_factory import Service, create_app

app = create_app(
    Service(
        title="Open Workshop storage",
        description="Both services in one process: gives files out and takes them in. The progress of transfers comes "
        "over the WebSocket `/transfer/ws/{job_id}?token=…`, as `ProgressMessage` among the schemas.",
        prefix="",
        routers=[*distributor.ROUTERS, *loader.ROUTERS],
        loads=True,
        shortcuts=[*distributor.SHORTCUTS, *loader.SHORTCUTS],
        health_prefixes=["", "/distributor", "/loader"],
    )
)
