"""How often form tokens are judged the slow way, and what is kept of them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import threading
from pathlib import Path

import bcrypt
import pytest

from open_workshop_storage.core.errors import AccessDenied, StorageError, TokenMissing, TooManyTokens
from open_workshop_storage.services.manager import form_tokens
from open_workshop_storage.services.manager.form_tokens import FormToken, FormTokens
from open_workshop_storage.utils.auth.random_tokens import hash_random_token
from tests.support.configs import Secrets, cheap_hash
from tests.support.in_process import make_settings

pytestmark = pytest.mark.anyio


class Judged:
    """The checks that bcrypt has made.

    Attributes:
        most_at_once: How many of them ran at the same time.
        niceness: That of the threads that they ran in.
    """

    def __init__(self) -> None:
        self.count = 0
        self.most_at_once = 0
        self.niceness: set[int] = set()
        self._running = 0
        self._check = bcrypt.checkpw

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        self._running += 1
        self.count += 1
        self.most_at_once = max(self.most_at_once, self._running)
        self.niceness.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        try:
            return self._check(password, hashed)
        finally:
            self._running -= 1


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Judged:
    judged = Judged()
    monkeypatch.setattr(bcrypt, "checkpw", judged)
    return judged


@pytest.fixture
def plain() -> Secrets:
    return Secrets()


@pytest.fixture
def tokens(tmp_path: Path, plain: Secrets) -> FormTokens:
    return FormTokens(make_settings(tmp_path, plain))


@pytest.fixture
def costly_tokens(tmp_path: Path, plain: Secrets) -> FormTokens:
    """Return what judges tokens of an operator's own, whose hashes take long to compare."""
    hashed = bcrypt.hashpw(plain.upload_file.encode(), bcrypt.gensalt(9)).decode()
    return FormTokens(make_settings(tmp_path, plain, upload_file=hashed))


async def outcomes(tokens: FormTokens, *given: str) -> list[type[StorageError] | None]:
    """Check tokens for `/upload` at the same time; return what each raises."""
    results = await asyncio.gather(
        *(tokens.check(FormToken.UPLOAD_FILE, token) for token in given), return_exceptions=True
    )
    return [type(result) if isinstance(result, StorageError) else None for result in results]


async def test_a_right_token_is_judged_once_however_many_use_it(
    tokens: FormTokens, plain: Secrets, judged: Judged
) -> None:
    assert await outcomes(tokens, *[plain.upload_file] * 10) == [None] * 10
    assert await outcomes(tokens, plain.upload_file) == [None]
    assert judged.count == 1


async def test_each_token_opens_its_own_call_only(tokens: FormTokens, plain: Secrets) -> None:
    for _ in range(2):
        await tokens.check(FormToken.DELETE_FILE, plain.delete_file)
        assert await outcomes(tokens, plain.delete_file, plain.upload_file) == [AccessDenied, None]


async def test_once_the_right_token_is_known_no_wrong_one_costs_anything(
    tokens: FormTokens, plain: Secrets, judged: Judged
) -> None:
    await tokens.check(FormToken.UPLOAD_FILE, plain.upload_file)
    wrong = [f"wrong {number}" for number in range(1000)]
    assert await outcomes(tokens, *wrong) == [AccessDenied] * 1000
    assert judged.count == 1


async def test_wrong_tokens_cost_nothing_from_the_start_if_the_hash_is_one_of_token_gen(
    tmp_path: Path, plain: Secrets, judged: Judged
) -> None:
    hashed = hash_random_token(plain.upload_file.encode()).decode()
    tokens = FormTokens(make_settings(tmp_path, plain, upload_file=hashed))
    wrong = [f"wrong {number}" for number in range(1000)]
    assert await outcomes(tokens, *wrong, plain.upload_file) == [AccessDenied] * 1000 + [None]
    assert judged.count == 1
    assert not any(tmp_path.glob(".form-token-*"))


async def test_a_wrong_token_is_judged_once_while_it_is_remembered(
    tmp_path: Path, plain: Secrets, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form_tokens, "_MOST_REMEMBERED", 4)
    tokens = FormTokens(make_settings(tmp_path, plain))
    for _ in range(3):
        assert await outcomes(tokens, "wrong", "wrong") == [AccessDenied, AccessDenied]
    assert judged.count == 1
    for number in range(4):
        await outcomes(tokens, f"wrong {number}")
    await outcomes(tokens, "wrong")
    assert judged.count == 6
    assert await outcomes(tokens, plain.upload_file) == [None]


async def test_with_hashes_of_low_cost_no_token_is_turned_away(
    tokens: FormTokens, plain: Secrets, judged: Judged
) -> None:
    told = await outcomes(tokens, *[f"wrong {number}" for number in range(100)], plain.upload_file)
    assert told == [AccessDenied] * 100 + [None]
    assert judged.most_at_once == 1
    assert judged.niceness == {os.getpriority(os.PRIO_PROCESS, threading.get_native_id())}


async def test_few_wrong_tokens_wait_and_a_token_that_comes_again_does_not_wait_for_them(
    costly_tokens: FormTokens, plain: Secrets, judged: Judged
) -> None:
    tokens = costly_tokens
    told = await outcomes(tokens, *[f"wrong {number}" for number in range(100)], plain.upload_file)
    assert told == [AccessDenied] * 4 + [TooManyTokens] * 97
    assert (judged.count, judged.most_at_once) == (4, 1)
    assert min(judged.niceness) > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    told = await outcomes(tokens, *[f"another {number}" for number in range(100)], plain.upload_file)
    assert told[-1] is None
    assert judged.most_at_once <= 2


async def test_the_manager_gets_in_at_its_second_try_however_many_wrong_tokens_come(
    costly_tokens: FormTokens, plain: Secrets
) -> None:
    tokens = costly_tokens
    stop = asyncio.Event()

    async def invent(start: int) -> None:
        for number in itertools.count(start, 10):
            if stop.is_set():
                return
            await outcomes(tokens, f"wrong {number}")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for start in range(10):
            tasks.create_task(invent(start))
        await asyncio.sleep(0.05)
        tries = [await outcomes(tokens, plain.upload_file) for _ in range(2)]
        stop.set()
    assert tries[-1] == [None]


async def test_a_token_that_was_right_is_known_to_other_workers_and_after_a_restart(
    tmp_path: Path, plain: Secrets, judged: Judged
) -> None:
    settings = make_settings(tmp_path, plain)
    other_worker = FormTokens(settings)
    assert await outcomes(other_worker, "wrong") == [AccessDenied]
    assert await outcomes(FormTokens(settings), plain.upload_file) == [None]
    assert judged.count == 2
    restarted = FormTokens(settings)
    for tokens in (other_worker, restarted):
        assert await outcomes(tokens, "new", plain.upload_file) == [AccessDenied, None]
    assert judged.count == 2


@pytest.mark.parametrize("changed", ["hash", "secret", "file"])
async def test_what_was_stored_for_other_settings_or_is_broken_is_ignored(
    changed: str, tmp_path: Path, plain: Secrets, judged: Judged
) -> None:
    settings = make_settings(tmp_path, plain)
    assert await outcomes(FormTokens(settings), plain.upload_file) == [None]
    if changed == "file":
        (stored,) = tmp_path.glob(".form-token-*")
        stored.write_bytes(stored.read_bytes()[:-1])
    other = Secrets(jwt_secret=plain.jwt_secret) if changed == "hash" else Secrets(upload_file=plain.upload_file)
    tokens = FormTokens(settings if changed == "file" else make_settings(tmp_path, other))
    right = other.upload_file if changed == "hash" else plain.upload_file
    assert await outcomes(tokens, right) == [None]
    assert judged.count == 2


@pytest.mark.parametrize("length", [72, 73, 200])
async def test_a_token_is_compared_in_full(length: int, tmp_path: Path, judged: Judged) -> None:
    right = "x" * 72
    tokens = FormTokens(make_settings(tmp_path, Secrets(), upload_file=cheap_hash(right)))
    assert await outcomes(tokens, "x" * length) == [None if length == 72 else AccessDenied]
    assert judged.count == (length == 72)


async def test_a_token_that_bcrypt_alone_would_take_is_wrong(tokens: FormTokens, plain: Secrets) -> None:
    doubled = f"{plain.upload_file}\0{plain.upload_file}"
    assert bcrypt.checkpw(doubled.encode(), plain.settings()["upload_file"].encode())
    assert await outcomes(tokens, doubled, plain.upload_file) == [AccessDenied, None]


async def test_no_token_is_missing(tokens: FormTokens) -> None:
    assert await outcomes(tokens, "") == [TokenMissing]


async def test_nothing_that_is_kept_tells_a_token(tokens: FormTokens, plain: Secrets, tmp_path: Path) -> None:
    assert await outcomes(tokens, "wrong token", plain.upload_file) == [AccessDenied, None]
    (stored,) = tmp_path.glob(".form-token-*")
    kept = repr(vars(tokens)) + repr(stored.read_bytes())
    assert "wrong token" not in kept and plain.upload_file not in kept
    assert hashlib.sha256(plain.upload_file.encode()).digest() not in stored.read_bytes()
