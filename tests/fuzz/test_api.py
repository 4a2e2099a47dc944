"""Both services against their own OpenAPI documents: no 5xx, and nothing but documented answers.

Schemathesis makes up requests that keep to a document and such as break it, and judges status, content type, headers
and body of each answer.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import settings
from schemathesis import Case
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from open_workshop_storage import distributor, loader
from tests.support.services import Services

pytestmark = pytest.mark.parametrize("services", ["memory"], indirect=True)

# It is sent as other bytes are.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")

DOCUMENTS = {"distributor": distributor.app.openapi(), "loader": loader.app.openapi()}
DISTRIBUTOR, LOADER = map(schemathesis.openapi.from_dict, DOCUMENTS.values())
for document in (DISTRIBUTOR, LOADER):
    # There are many operations. With the profile of `make fuzz` this grows as well.
    document.config.generation.update(max_examples=settings().max_examples // 4)
    # tus refuses what does not name its version, and none of what else may be wrong.
    document.config.checks.negative_data_rejection.expected_statuses = ["4XX", "5XX"]
    document.config.checks.missing_required_header.expected_statuses = ["4XX"]

# A request may keep to the document and name what does not exist, or may not be had.
NOT_EXPECTED: list[CheckFunction] = [positive_data_acceptance]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_running_service_shows_the_document_that_is_tested(name: str, services: Services) -> None:
    shown = httpx.get(f"{services.servers[name].url}/{name}/openapi.json").json()
    assert shown == DOCUMENTS[name]


@DISTRIBUTOR.parametrize()
def test_the_distributor_answers_whatever_comes_as_documented(case: Case[Any], unshaken: Services) -> None:
    case.call_and_validate(unshaken.distributor, excluded_checks=NOT_EXPECTED)


@LOADER.parametrize()
def test_the_loader_answers_whatever_strangers_send_as_documented(case: Case[Any], unshaken: Services) -> None:
    case.call_and_validate(unshaken.loader, excluded_checks=NOT_EXPECTED)


@LOADER.include(method=["POST", "DELETE"]).parametrize()
def test_the_loader_answers_whatever_comes_with_sound_tokens_as_documented(case: Case[Any], unshaken: Services) -> None:
    tokens = {
        "/upload": unshaken.secrets.upload_file,
        "/delete": unshaken.secrets.delete_file,
        "/transfer/repack": unshaken.secrets.storage_manage_token,
        "/transfer/move": unshaken.secrets.storage_manage_token,
    }
    if case.path not in tokens:
        case.query = {**(case.query or {}), "token": unshaken.ticket(download_url="http://127.0.0.1:1/").token}
    elif isinstance(case.body, dict):
        case.body["token"] = tokens[case.path]
    # What was wrong may have been the token.
    case.call_and_validate(unshaken.loader, excluded_checks=[*NOT_EXPECTED, negative_data_rejection])
