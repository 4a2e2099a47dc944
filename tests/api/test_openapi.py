"""The OpenAPI documents of the services."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from pydantic import BaseModel

from open_workshop_storage import app, distributor, loader
from open_workshop_storage.api.documents.messages import CallbackClaims, ProgressMessage, TransferTokenClaims
from open_workshop_storage.utils.http.media_types import DEFAULT_MEDIA_TYPE, SAFE_MEDIA_TYPES
from tests.support.documents import Operation, operations

APPS = {"distributor": distributor.app, "loader": loader.app, "app": app.app}
DOCUMENTS = {name: app.openapi() for name, app in APPS.items()}
OPERATIONS = [
    pytest.param(operation, id=f"{name} {operation.method} {operation.path}")
    for name, document in DOCUMENTS.items()
    for operation in operations(document)
]

BINARY = {"type": "string", "format": "binary"}
MODELS = (TransferTokenClaims, CallbackClaims, ProgressMessage)
ROUTES = {
    "distributor": {
        "GET /download/{type}/{path}",
        "HEAD /download/{type}/{path}",
        "GET /contents/{type}/{path}",
        "HEAD /contents/{type}/{path}",
        "POST /blurhashes",
    },
    "loader": {
        "POST /upload",
        "DELETE /delete",
        "GET /transfer/start",
        "POST /transfer/start",
        "POST /transfer/upload",
        "POST /transfer/repack",
        "POST /transfer/move",
        "POST /transfer/tus/",
        "HEAD /transfer/tus/{job_id}",
        "PATCH /transfer/tus/{job_id}",
        "DELETE /transfer/tus/{job_id}",
        "GET /transfer/events/{job_id}",
        "GET /loader/status",
        "POST /loader/callbacks/{jti}/deliver",
        "POST /loader/jobs/{job_id}/cancel",
    },
}

each_document = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
each_operation = pytest.mark.parametrize("operation", OPERATIONS)


def tags_of_webhooks(document: dict[str, Any]) -> set[str]:
    return {tag for item in document.get("webhooks", {}).values() for spec in item.values() for tag in spec["tags"]}


@each_document
def test_a_document_keeps_to_the_specification(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    validate(document)


@each_document
def test_a_document_says_what_it_is_about(document: dict[str, Any]) -> None:
    assert document["info"].keys() >= {"title", "version", "description", "license"}
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    used = {tag for operation in operations(document) for tag in operation.spec["tags"]}
    # Generators make one module of each tag, from the operations or from the webhooks.
    assert used.isdisjoint(tags_of_webhooks(document)) and used | tags_of_webhooks(document) == described


@pytest.mark.parametrize("name", ROUTES)
def test_every_route_stands_in_the_document(name: str) -> None:
    described = {f"{operation.method.upper()} {operation.path}" for operation in operations(DOCUMENTS[name])}
    assert described == ROUTES[name] | {f"GET /{name}/{what}" for what in ("healthz", "readyz", "metrics")}


def test_the_combined_app_describes_what_both_services_do() -> None:
    both = DOCUMENTS["distributor"]["paths"] | DOCUMENTS["loader"]["paths"]
    assert DOCUMENTS["app"]["paths"].keys() == both.keys() | {"/healthz", "/readyz"}
    assert {path: DOCUMENTS["app"]["paths"][path] for path in both} == both


@each_document
def test_the_framework_s_own_refusals_appear_nowhere(document: dict[str, Any]) -> None:
    assert not re.search("Validation ?Error", str(document))


@each_document
def test_operation_ids_are_unique_and_readable(document: dict[str, Any]) -> None:
    ids = [operation.id for operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) and len(name) < 30 for name in ids)


@each_operation
def test_an_operation_is_explained(operation: Operation) -> None:
    assert operation.spec["summary"] and operation.spec["description"] and operation.spec["tags"]


@each_operation
def test_every_parameter_is_explained_and_has_an_example_that_fits(operation: Operation) -> None:
    for parameter in operation.parameters:
        assert parameter["description"], parameter["name"]
        (example,) = parameter["schema"]["examples"]
        operation.validate(example, parameter["schema"])


@each_operation
def test_every_field_of_a_body_is_explained_and_has_an_example_that_fits(operation: Operation) -> None:
    for media_type, content in operation.spec.get("requestBody", {"content": {}})["content"].items():
        schema = content["schema"]
        assert schema["type"] == "object" or BINARY.items() <= schema.items() and schema["examples"], media_type
        for name, described in schema.get("properties", {}).items():
            assert described["description"], name
            assert described.keys() & {"examples", "enum", "default"} or described["format"] == "binary", name
            for example in described.get("examples", []):
                operation.validate(example, described)


@each_operation
def test_every_answer_is_explained_and_has_an_example_that_fits(operation: Operation) -> None:
    assert any(status.startswith("2") for status in operation.responses)
    for status, response in operation.responses.items():
        assert response["description"], status
        for media_type, content in response.get("content", {}).items():
            assert "*" not in media_type
            examples = [example["value"] for example in content.get("examples", {}).values()]
            examples += [content["example"]] if "example" in content else []
            assert examples, status
            for example in examples:
                operation.validate(example, content["schema"])


@each_operation
def test_refusals_are_short_plain_texts(operation: Operation) -> None:
    for status, response in operation.responses.items():
        if status >= "4" and not operation.path.endswith("/readyz"):
            assert response["content"].keys() == {"text/plain"}
            assert all(len(text) < 80 and "{" not in text for text in operation.messages(status))


@each_operation
def test_every_header_is_explained_and_has_an_example(operation: Operation) -> None:
    for status, response in operation.responses.items():
        for name, header in response["headers"].items():
            if "$ref" in header:
                header = operation.document["components"]["headers"][header["$ref"].rpartition("/")[2]]
            assert header["description"], name
            operation.validate(header["example"], header["schema"])
        assert response["headers"].keys() >= {"Access-Control-Allow-Origin", "Access-Control-Expose-Headers"}
        if status in ("429", "503") and "text/plain" in response["content"]:
            assert "Retry-After" in response["headers"]


def test_a_download_has_one_of_the_types_that_files_are_labelled_with() -> None:
    types = {kind.partition(";")[0] for kind in SAFE_MEDIA_TYPES.values()} | {DEFAULT_MEDIA_TYPE}
    for status, others in (("200", set()), ("206", {"multipart/byteranges"})):
        content = DOCUMENTS["distributor"]["paths"]["/download/{type}/{path}"]["get"]["responses"][status]["content"]
        assert content.keys() == types | others
        # The first one is what generators make a function's result of.
        assert next(iter(content)) == DEFAULT_MEDIA_TYPE
        assert all(each["schema"] == BINARY for each in content.values())


@each_document
def test_no_parameter_may_be_null(document: dict[str, Any]) -> None:
    for operation in operations(document):
        assert all(parameter["schema"]["type"] in ("string", "integer") for parameter in operation.parameters)


@pytest.mark.parametrize("name", ["loader", "app"])
@pytest.mark.parametrize("model", MODELS)
def test_what_travels_in_tokens_and_sockets_stands_among_the_schemas(name: str, model: type[BaseModel]) -> None:
    schema = DOCUMENTS[name]["components"]["schemas"][model.__name__]
    OAS31Validator.check_schema(schema)
    assert schema["description"] and schema["examples"] and "$defs" not in schema
    for example in schema["examples"]:
        OAS31Validator(schema).validate(example)


@pytest.mark.parametrize("name", ["loader", "app"])
def test_the_callback_stands_among_the_webhooks(name: str) -> None:
    callback = DOCUMENTS[name]["webhooks"]["transfer-completed"]["post"]
    assert callback["responses"].keys() >= {"200", "408", "409", "425", "429", "5XX", "default"}
    for claim in ("jti", "job_id", "status", "reason", "packed_bytes", "sha256", "unpacked_bytes", "callback_context"):
        assert f'"{claim}"' in callback["description"]
