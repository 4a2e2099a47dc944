"""The call that the loader makes, for the documents (docs/API.md, "Callback")."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from open_workshop_storage.api.documents.messages import CALLBACK_EXAMPLE
from open_workshop_storage.api.documents.openapi import header

router = APIRouter()

_AGAIN: dict[str, Any] = {"description": "Try again later."}


@router.post(
    "transfer-completed",
    tags=["callback"],
    summary="A transfer has ended",
    operation_id="transfer_completed",
    description=f"""Sent to `MANAGER_TRANSFER_CALLBACK_URL` at the end of each attempt at a transfer, without a body.

The claims of the bearer token (`CallbackClaims` among the schemas) say which transfer it was and what became of it;
unknown claims of the transfer token are among them:

```json
{CALLBACK_EXAMPLE}
```

While the Manager handles this call it calls `/transfer/move`, and only then answers.""",
    response_class=Response,
    response_description="Delivered; so is any other 2xx.",
    responses={
        408: _AGAIN,
        409: {"description": "This end is settled already."},
        425: _AGAIN,
        429: _AGAIN | {"headers": header("Retry-After", "Seconds, or a date, before which not to try.", 30)},
        "5XX": _AGAIN,
        "default": {"description": "Refused for good: it is not sent again."},
    },
)
def transfer_completed(
    token: Annotated[
        HTTPAuthorizationCredentials,
        Security(
            HTTPBearer(
                scheme_name="CallbackToken",
                bearerFormat="JWT",
                description="Signed by the storage with the shared secret, afresh for each attempt at delivery.",
            )
        ),
    ],
) -> None:
    """Stand for the Manager's route; nothing calls this."""
