"""`POST /blurhashes` in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from open_workshop_storage.api.documents.openapi import answer, operation
from open_workshop_storage.core.errors import ClientGone, ServiceUnavailable, TooManyPieces, UploadTimedOut

MAX_PATHS = 1000
INVALID_BODY = f"Invalid body: a list of at most {MAX_PATHS} paths expected"


class BlurhashRequest(BaseModel):
    """Images to be previewed."""

    paths: Annotated[
        list[str],
        Field(
            max_length=MAX_PATHS,
            description="Download addresses, as full URLs or relative: `[/]download/<type>/<path>`.",
            examples=[["/download/resource/covers/7.webp", "https://storage.example/download/avatar/3.webp"]],
        ),
    ]


class BlurhashItem(BaseModel):
    """What is known of one image; all null if there is no public image at that address."""

    path: Annotated[str, Field(description="As it was asked for.")]
    blurhash: Annotated[str | None, Field(description="4×3 components.")]
    width: Annotated[int | None, Field(description="Pixels of the stored image.")]
    height: Annotated[int | None, Field(description="Pixels of the stored image.")]


class BlurhashAnswer(BaseModel):
    """What is known of the images, in the order of the request."""

    items: list[BlurhashItem]


_EXAMPLE = BlurhashItem(
    path="/download/resource/covers/7.webp", blurhash="LEHV6nWB2yk8pyo0adR*.7kCMdnj", width=1280, height=720
)
BLURHASHES = operation(
    "Previews of images",
    "compute_blurhashes",
    {200: answer("What is known of each image, in the order of the request.", BlurhashAnswer(items=[_EXAMPLE]))},
    INVALID_BODY,
    "Request body too large",
    ClientGone,
    TooManyPieces,
    UploadTimedOut,
    ServiceUnavailable,
    requestBody={"required": True, "content": {"application/json": {"schema": BlurhashRequest.model_json_schema()}}},
)
