"""Bounds on forms whose token has not been judged yet (docs/API.md, "POST `/upload`")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from open_workshop_storage.core.errors import FileTooLarge, ServiceUnavailable, UploadTimedOut

_MOST_FORMS = 128
_TOKEN_SECONDS = 60.0


class UntrustedForm:
    """One form whose token has not been judged yet.

    Attributes:
        received: Bytes of its file so far.
        is_dropped: Whether it had to make room for another form.
        is_on_disk: Whether some of its file may be on the disk.
    """

    def __init__(self) -> None:
        self.received = 0
        self.is_dropped = False
        self.is_on_disk = False
        self.time_limit = asyncio.timeout(_TOKEN_SECONDS)

    def begin_file(self, block: bytes) -> None:
        """Note that the first block of the file is about to be written."""
        self.is_on_disk = True

    def end_at(self, when: float | None) -> None:
        """Change when the form's time is up, by the loop's clock, unless it is up already."""
        if not self.time_limit.expired():
            self.time_limit.reschedule(when)


class UntrustedForms:
    """The forms of this worker whose tokens have not been judged yet.

    Their number and the bytes of their files together are bounded, and each has a minute for its token. A form that
    is too many takes the place of the one that has been silent longest, so forms that stand still keep no other out.

    Args:
        max_bytes: Limit on the files' bytes together; 0 for none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The one that has been silent longest comes first.
        self._forms: dict[UntrustedForm, None] = {}

    @asynccontextmanager
    async def admitted(self, form: UntrustedForm) -> AsyncIterator[None]:
        """Receive a form inside the block, which ends when the form has to make room or its time is up.

        Raises:
            ServiceUnavailable: Another form took its place.
            UploadTimedOut: Its token did not come in time.
        """
        try:
            async with form.time_limit:
                self._forms[form] = None
                self._make_room()
                yield
        except TimeoutError:
            raise ServiceUnavailable if form.is_dropped else UploadTimedOut from None
        finally:
            self._forms.pop(form, None)

    def add(self, form: UntrustedForm, size: int) -> None:
        """Note that so many bytes of a form's file have come.

        Raises:
            FileTooLarge: They are more than all files may have together.
        """
        form.received += size
        if self._max_bytes and form.received > self._max_bytes:
            raise FileTooLarge
        if form in self._forms:
            self._forms[form] = self._forms.pop(form)
            self._make_room()

    def trust(self, form: UntrustedForm) -> None:
        """Lift all bounds from a form, since its token is right."""
        form.is_on_disk = True
        if form in self._forms:
            del self._forms[form]
            form.end_at(None)

    def _make_room(self) -> None:
        while len(self._forms) > _MOST_FORMS or 0 < self._max_bytes < sum(form.received for form in self._forms):
            dropped = next(iter(self._forms))
            del self._forms[dropped]
            dropped.is_dropped = True
            dropped.end_at(0)
