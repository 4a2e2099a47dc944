"""Forms that wait for their tokens: how many, how long, and which of them make room."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

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
        self.form: UntrustedForm | None = None
        self._admitted = asyncio.Event()
        self._task = asyncio.create_task(self._stand_still(forms))

    async def _stand_still(self, forms: UntrustedForms) -> None:
        self.form = UntrustedForm()
        async with forms.admitted(self.form):
            self._admitted.set()
            await asyncio.Event().wait()

    async def admitted(self) -> UntrustedForm:
        await self._admitted.wait()
        assert self.form is not None
        return self.form

    async def end(self) -> StorageError | None:
        """Let what is due happen; return what the form has ended with, and end it if it goes on."""
        await asyncio.sleep(0.01)
        self._task.cancel()
        (result,) = await asyncio.gather(self._task, return_exceptions=True)
        return result if isinstance(result, StorageError) else None


async def test_one_too_many_ends_the_one_that_has_been_silent_longest() -> None:
    forms = UntrustedForms(0)
    senders = [Sender(forms) for _ in range(3)]
    first = await senders[0].admitted()
    await senders[2].admitted()
    forms.add(first, 1)
    fourth = Sender(forms)
    await fourth.admitted()
    ends = [await sender.end() for sender in (*senders, fourth)]
    assert [type(end) for end in ends] == [type(None), ServiceUnavailable, type(None), type(None)]


async def test_too_many_bytes_end_silent_ones_and_never_the_one_that_sends() -> None:
    forms = UntrustedForms(100)
    senders = [Sender(forms) for _ in range(3)]
    for sender in senders:
        forms.add(await sender.admitted(), 30)
    forms.add(await senders[1].admitted(), 60)
    with pytest.raises(FileTooLarge):
        forms.add(await senders[1].admitted(), 11)
    ends = [await sender.end() for sender in senders]
    assert [type(end) for end in ends] == [ServiceUnavailable, type(None), ServiceUnavailable]


async def test_a_token_must_come_in_time_and_a_trusted_form_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted_forms, "_TOKEN_SECONDS", 0.05)
    forms = UntrustedForms(0)
    late, trusted = Sender(forms), Sender(forms)
    forms.trust(await trusted.admitted())
    await asyncio.sleep(0.1)
    assert isinstance(await late.end(), UploadTimedOut)
    assert await trusted.end() is None


async def test_trusted_forms_do_not_count() -> None:
    forms = UntrustedForms(100)
    async with AsyncExitStack() as stack:
        for _ in range(10):
            form = UntrustedForm()
            await stack.enter_async_context(forms.admitted(form))
            forms.add(form, 90)
            forms.trust(form)
        await asyncio.sleep(0.01)
