"""What goes wrong."""

from __future__ import annotations


class InvalidToken(Exception):
    """A token is malformed, expired, for another audience, or not signed with the shared secret."""


class StorageError(Exception):
    """The storage refused what was asked, did not answer, or what it sent is damaged.

    Attributes:
        status: HTTP status of its answer; `None` if no answer says so.
        message: The service's own message, which can be shown to people; without one, what is wrong.
        retry_after: How long to wait before the next try, in seconds, if the answer says that.
    """

    def __init__(self, status: int | None, message: str, retry_after: int | None = None) -> None:
        super().__init__(message if status is None else f"{status} {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after
