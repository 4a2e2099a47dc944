"""docs/API.md against the OpenAPI documents and the code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_workshop_storage import distributor, loader
from open_workshop_storage.api.documents.messages import (
    TRANSFER_TOKEN_EXAMPLE,
    CallbackClaims,
    ProgressMessage,
    TransferTokenClaims,
)
from open_workshop_storage.core import errors
from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import TransferClaims, parse_claims
from open_workshop_storage.core.events import EventKind, event_of, first_event
from open_workshop_storage.core.job import Job, Stage
from tests.support.documents import Operation, operations

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "docs" / "API.md").read_text()
JOB = Job(job_id="job-7f3a9c21", claims=TransferClaims(job_id="job-7f3a9c21"), origin="upload", file_name="file")
OPERATIONS = [operation for app in (distributor.app, loader.app) for operation in operations(app.openapi())]


def job(**values: object) -> Job:
    """Return a record with these values."""
    return JOB.model_copy(update=values)


STATUSES = {job(stage=stage).status for stage in Stage} | {job(moved_bytes=1).status}
CLAIMS_OF_THE_TOKEN = {"aud": "manager", "iss": "storage", "iat": 1, "exp": 601, "jti": "3f0c5a3e"}
ERRORS = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.StorageError)
}
# It stands for any text of another service.
NO_MESSAGE_OF_OURS = "The reason that the access service gave"

Refusals = set[tuple[str, str]]


def anchor(heading: str) -> str:
    """Return what a link to a heading looks like where Markdown is shown."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


SECTIONS = {
    anchor(heading): section for heading, section in re.findall(r"^##+ (.+)\n((?:(?!##).*\n)*)", TEXT, re.MULTILINE)
}


def rows(section: str) -> Refusals:
    """Return the statuses and messages in the tables of a section."""
    return set(re.findall(r"^\| (\d{3}|other) \| (?:[`*](.+?)[`*])? ?\| ", section, re.MULTILINE))


def written(operation: Operation) -> Refusals:
    section = SECTIONS[anchor(f"{operation.method} {operation.path}")]
    linked = [SECTIONS[name] for name in re.findall(r"\]\(#([\w-]+)\)", section)]
    alike = linked if section.startswith("\nAs the ") else []
    see_also = [SECTIONS[name] for name in re.findall(r"#([\w-]+)", section.partition("See also")[2])]
    return set().union(*map(rows, [section, *alike, *see_also]))


def described(operation: Operation) -> Iterator[tuple[str, str]]:
    for status, response in operation.responses.items():
        if status == "default":
            yield "other", "the access service's message"
        else:
            yield from ((status, message) for message in operation.messages(status) or {""})


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_each_operation_is_written_about_with_all_its_statuses_and_messages(operation: Operation) -> None:
    assert written(operation) == set(described(operation))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_each_parameter_and_field_is_written_about(operation: Operation) -> None:
    section = SECTIONS[anchor(f"{operation.method} {operation.path}")]
    if operation.id in ("head_file", "head_contents", "start_transfer_by_form"):
        # "The same", as the one before it.
        section += SECTIONS[anchor(f"get {operation.path}")]
    names = [parameter["name"] for parameter in operation.parameters if parameter["in"] != "path"]
    for content in operation.spec.get("requestBody", {}).get("content", {}).values():
        names += content["schema"].get("properties", {})
    for name in names:
        assert re.search(rf'[`"]{name}[`":]', section), name


def test_every_link_leads_to_a_section() -> None:
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= SECTIONS.keys()


def messages_in_the_code() -> Iterator[str]:
    for path in (PROJECT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in ERRORS and isinstance(node.args[0].value, str):
                    yield node.args[0].value
    for kind in ERRORS.values():
        if kind is not errors.BadRequest and "message" in vars(kind):
            yield kind.message


def test_every_message_in_the_code_is_written_about() -> None:
    messages = set(messages_in_the_code()) - {NO_MESSAGE_OF_OURS}
    assert len(messages) > 50
    assert not {message for message in messages if f"`{message}`" not in TEXT}


def test_every_reason_is_written_about() -> None:
    reasons = {kind.reason for kind in ERRORS.values()}
    assert set(re.findall(r"^\| `([\w:<>]+)` \|", SECTIONS["reasons"], re.MULTILINE)) == reasons | {"status:<code>"}


def named_in_table(section: str) -> set[str]:
    """Return the names in the first column of a table."""
    first_cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    return {name for cell in first_cells for name in re.findall("`(.+?)`", cell)}


def test_every_field_of_a_progress_message_is_written_about() -> None:
    section = SECTIONS["ws-transferwsjob_id"]
    message = event_of(job(stage=Stage.ERROR, message="Corrupt archive"), EventKind.ERROR).text
    assert named_in_table(section) == json.loads(message).keys() == ProgressMessage.model_fields.keys()
    for value in (*Stage, *EventKind, *STATUSES):
        assert f"`{value}`" in section


def test_progress_messages_are_as_their_schema_says() -> None:
    sent = [event_of(job(stage=stage), EventKind.STAGE).text for stage in Stage]
    sent += [event_of(job(message="Corrupt archive"), kind).text for kind in EventKind]
    sent += [event_of(job(moved_bytes=1), EventKind.COMPLETE).text, first_event(None).text]
    for text in sent:
        ProgressMessage.model_validate_json(text, strict=True)
    allowed = ProgressMessage.model_json_schema()["properties"]
    assert set(allowed["event"]["enum"]) == set(EventKind) and set(allowed["stage"]["enum"]) == set(Stage)
    assert set(allowed["status"]["enum"]) == STATUSES


def test_every_claim_of_a_callback_is_written_about() -> None:
    claims = callback_of(job(stage=Stage.ERROR, malware="Some.Name")).claims.keys() | CLAIMS_OF_THE_TOKEN.keys()
    assert named_in_table(SECTIONS["callback"]) == claims == CallbackClaims.model_fields.keys()


@pytest.mark.parametrize("example", [{}, {"transfer_kind": "img", "storage_type": "avatar", "later": 1}])
@pytest.mark.parametrize("stage", [Stage.PACKED, Stage.ERROR])
def test_callbacks_are_as_their_schema_says(example: dict[str, object], stage: Stage) -> None:
    claims = parse_claims({"job_id": JOB.job_id, "mod_id": 7, "callback_context": {"user": 3}, **example})
    ended = job(claims=claims, stage=stage, reason="corrupt_archive")
    sent = json.dumps(callback_of(ended).claims | CLAIMS_OF_THE_TOKEN)
    read = CallbackClaims.model_validate_json(sent, strict=True)
    expected = ("success", "") if stage is Stage.PACKED else ("error", "corrupt_archive")
    assert (read.job_id, read.status, read.reason) == (JOB.job_id, *expected)


def test_every_claim_of_a_transfer_token_is_written_about_and_understood() -> None:
    named = named_in_table(SECTIONS["transfer-tokens"]) | {"keep_condition"}
    assert named == TransferTokenClaims.model_fields.keys() - {"aud", "exp"}
    assert parse_claims(json.loads(TRANSFER_TOKEN_EXAMPLE)).pack_level == 5
