"""What the record of an upload in several requests holds besides."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """One file of an upload in several requests.

    Attributes:
        file: Its path, relative to the workspace.
        bytes: How many of its bytes count. A worker that was replaced may go on to write behind them.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    bytes: int = 0


class Resumable(BaseModel):
    """How far an upload in several requests is.

    Attributes:
        metadata: The client's own description of the file, handed back as it came.
        parts: The files that hold its bytes, in order; almost always one.
        sealed: Whether a worker that was replaced may still write to the last part, so that the next request
            begins another one.
        sha256: What the whole file's SHA-256 has to be, as hex digits; `None` if no request has said it.
    """

    model_config = ConfigDict(frozen=True)

    metadata: str | None = None
    parts: tuple[Part, ...] = ()
    sealed: bool = False
    sha256: str | None = None
