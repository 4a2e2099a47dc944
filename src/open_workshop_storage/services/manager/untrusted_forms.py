"""Bounds on forms whose token has not been judged yet (docs/API.md, "POST `/upload`")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from open_workshop_storage.core.errors import FileTooLarge, ServiceUnavailable, UploadTimedOut

_MOST_FORMS = 128
_TOKEN_SECONDS = 60.0


class UntrustedForm:
    """One form whose token has not been judged yet.

    Attributes:
        held: What has come of its file. One array, since the bytes may come in very small pieces.
        is_dropped: Whether it had to make room for another form.
    """

    def __init__(self) -> None:
        self.held = bytearray()
        self.is_dropped = False
        self.time_limit = asyncio.timeout(_TOKEN_SECONDS)

    def drop(self) -> None:
        """Let go of what is held, and end the form."""
        self.held.clear()
        self.is_dropped = True
        if not self.time_limit.expired():
            self.time_limit.reschedule(0)


class UntrustedForms:
    """The forms of this worker whose tokens have not been judged yet.

    Their number and the bytes of their files together, which are held in memory, are bounded, and each has a minute for
    its token. A form that is too many takes the place of the one that has been silent longest, so forms that stand
    still keep no other out.

    Args:
        max_bytes: Limit on the files' bytes together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The one that has been silent longest comes first.
        self._forms: dict[UntrustedForm, None] = {}

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[UntrustedForm]:
        """Receive a form up to its token inside the block, which ends when the form has to make room or its time is up.

        Raises:
            ServiceUnavailable: Another form took its place.
            UploadTimedOut: Its token did not come in time.
        """
        form = UntrustedForm()
        try:
            async with form.time_limit:
                self._forms[form] = None
                self._make_room()
                yield form
            if form.is_dropped:
                # Its token came before its end was due.
                raise ServiceUnavailable
        except TimeoutError:
            raise ServiceUnavailable if form.is_dropped else UploadTimedOut from None
        finally:
            self._forms.pop(form, None)

    def hold(self, form: UntrustedForm, pieces: Iterable[bytes]) -> None:
        """Keep further bytes of a form's file.

        Raises:
            FileTooLarge: They are more than all files may have together.
            ServiceUnavailable: Another form took its place.
        """
        if form.is_dropped:
            raise ServiceUnavailable
        form.held += b"".join(pieces)
        if len(form.held) > self._max_bytes:
            raise FileTooLarge("Send the token before the file")
        self._forms[form] = self._forms.pop(form)
        self._make_room()

    def _make_room(self) -> None:
        while len(self._forms) > _MOST_FORMS or sum(len(form.held) for form in self._forms) > self._max_bytes:
            dropped = next(iter(self._forms))
            del self._forms[dropped]
            dropped.drop()
