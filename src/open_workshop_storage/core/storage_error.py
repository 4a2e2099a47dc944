"""The base of all errors that clients and the Manager see; `errors.py` lists them."""

from __future__ import annotations


class StorageError(Exception):
    """A failure with a status, a message for people and a reason for the Manager.

    Args:
        message: Text in place of the class's own.
    """

    status = 500
    message = "Internal server error"
    reason = "exception"
    retry_after: int | None = None
    """Seconds that the client should wait, sent as `Retry-After`."""

    def __init_subclass__(
        cls,
        *,
        status: int | None = None,
        message: str | None = None,
        reason: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Set what a subclass does not have in common with its base."""
        cls.status, cls.message = status or cls.status, message or cls.message
        cls.reason, cls.retry_after = reason or cls.reason, retry_after or cls.retry_after

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)
