"""A client of the storage for Managers and tools, async (docs/CLIENTS.md). It imports nothing of the services.

What is named here is public; `open_workshop_storage.client.fastapi` is, too.
"""

from open_workshop_storage.client.calls import StorageError
from open_workshop_storage.client.downloads import Contents, Downloads, Entry
from open_workshop_storage.client.storage import Moved, Repacked, Storage
from open_workshop_storage.client.tokens import (
    Callback,
    InvalidToken,
    TransferClaims,
    sign_transfer_token,
    verify_callback,
)
from open_workshop_storage.client.transfers import Progress, Transfer

__all__ = [
    "Callback",
    "Contents",
    "Downloads",
    "Entry",
    "InvalidToken",
    "Moved",
    "Progress",
    "Repacked",
    "Storage",
    "StorageError",
    "Transfer",
    "TransferClaims",
    "sign_transfer_token",
    "verify_callback",
]
