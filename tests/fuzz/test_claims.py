"""Transfer tokens whose claims are of any type."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import httpx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jwt.api_jws import PyJWS

from open_workshop_storage import loader
from tests.support.documents import operations
from tests.support.manager import Answer
from tests.support.services import Services

pytestmark = pytest.mark.parametrize("services", ["redis"], indirect=True)

OPERATIONS = {operation.id: operation for operation in operations(loader.app.openapi())}

SOUND = st.fixed_dictionaries(
    {},
    optional={
        "transfer_kind": st.sampled_from(["archive", "img"]),
        "storage_type": st.sampled_from(["resource", "avatar"]),
        "file_kind": st.just("img"),
        "pack_format": st.just("zip"),
        "pack_level": st.integers(0, 9),
        "download_url": st.just("http://127.0.0.1:1/"),
    },
)
OTHERS = """mod_id update_only keep_condition mode callback_action callback_context target_path max_bytes filename
    iss sub jti iat nbf status reason bytes packed_bytes sha256 unpacked_bytes packed_format""".split()
TEXTS = st.text(max_size=20) | st.sampled_from(["", "\0", "\ud800", "../..", "img", "9" * 19, "http://["])
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, 10**400, float("inf"), float("nan"), 3.0, -0.0])
DEEP = st.sampled_from([100, 190, 200, 250, 300, 900]).map(lambda depth: json.loads("[" * depth + "]" * depth))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | DEEP,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
ODD = st.dictionaries(st.sampled_from([*OTHERS, "transfer_kind", "storage_type", "pack_level"]) | TEXTS, VALUES)


@pytest.mark.parametrize("operation_id", ["upload_transfer", "start_transfer_by_query"])
@given(SOUND, ODD)
@settings(deadline=None)
def test_claims_of_any_type_are_obeyed_or_refused(
    operation_id: str, unshaken: Services, sound: dict[str, Any], odd: dict[str, Any]
) -> None:
    operation = OPERATIONS[operation_id]
    job_id = f"job-{uuid.uuid4().hex}"
    unshaken.manager.script(job_id, Answer(move=False))
    claims = {**sound, **odd, "job_id": job_id, "aud": "storage", "exp": int(time.time()) + 600}
    # PyJWT judges claims that it encodes.
    token = PyJWS().encode(json.dumps(claims).encode(), unshaken.secrets.jwt_secret, algorithm="HS256")
    # Longer queries are refused, whatever is in them.
    assume(len(token) < 8000)
    answer = httpx.request(
        operation.method,
        unshaken.loader + operation.path,
        params={"token": token},
        content=b"any" if operation.method == "post" else None,
        verify=False,
    )
    assert answer.status_code < 500, answer.text
    operation.check(answer)
