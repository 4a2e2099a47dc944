"""Forms that wait for their tokens: how many, how long, and which of them make room."""

from __future__ import annotations

import asyncio

import pytest

from open_workshop_storage.core.errors import FileTooLarge, ServiceUnavailable, StorageError, UploadTimedOut
from open_workshop_storage.services.manager import untrusted_forms
from open_workshop_storage.services.manager.untrusted_forms import UntrustedForm, UntrustedForms

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted_forms, "_MOST_FORMS", 3)


class Sender:
    """A form that stands still until it is ended."""

    def __init__(self, forms: UntrustedForms) -> None:
        self._forms = forms
        self._form: UntrustedForm | None = None
        self._admitted = asyncio.Event()
        self._task = asyncio.create_task(self._stand_still())

    async def _stand_still(self) -> None:
        async with self._forms.admitted() as self._form:
            self._admitted.set()
            await asyncio.Event().wait()

    async def send(self, size: int) -> None:
        await self._admitted.wait()
        assert self._form is not None
        self._forms.hold(self._form, [bytes(size)])

    async def end(self) -> StorageError | None:
        """Let what is due happen; return what the form has ended with, and end it if it goes on."""
        await asyncio.sleep(0.01)
        self._task.cancel()
        (result,) = await asyncio.gather(self._task, return_exceptions=True)
        return result if isinstance(result, StorageError) else None


async def test_one_too_many_ends_the_one_that_has_been_silent_longest() -> None:
    forms = UntrustedForms(100)
    senders = [Sender(forms) for _ in range(3)]
    await senders[2].send(0)
    await senders[0].send(1)
    fourth = Sender(forms)
    await fourth.send(0)
    ends = [await sender.end() for sender in (*senders, fourth)]
    assert [type(end) for end in ends] == [type(None), ServiceUnavailable, type(None), type(None)]


async def test_too_many_bytes_end_silent_ones_and_never_the_one_that_sends() -> None:
    forms = UntrustedForms(100)
    senders = [Sender(forms) for _ in range(3)]
    for sender in senders:
        await sender.send(30)
    await senders[1].send(60)
    with pytest.raises(FileTooLarge, match="^Send the token before the file$"):
        await senders[1].send(11)
    ends = [await sender.end() for sender in senders]
    assert [type(end) for end in ends] == [ServiceUnavailable, type(None), ServiceUnavailable]


async def test_a_form_whose_bytes_have_made_room_ends_though_its_token_comes_at_that_moment() -> None:
    forms = UntrustedForms(100)
    with pytest.raises(ServiceUnavailable):
        async with forms.admitted() as first:
            forms.hold(first, [bytes(60)])
            async with forms.admitted() as second:
                forms.hold(second, [bytes(60)])
            assert (len(first.held), len(second.held)) == (0, 60)
    with pytest.raises(ServiceUnavailable):
        forms.hold(first, [bytes(1)])


async def test_a_token_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted_forms, "_TOKEN_SECONDS", 0.05)
    with pytest.raises(UploadTimedOut):
        async with UntrustedForms(100).admitted():
            await asyncio.Event().wait()


async def test_trusted_forms_do_not_count() -> None:
    forms = UntrustedForms(100)
    for _ in range(10):
        async with forms.admitted() as form:
            forms.hold(form, [bytes(90)])
        assert len(form.held) == 90
