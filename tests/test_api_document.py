"""docs/API.md against the OpenAPI documents and the code."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_workshop_storage import distributor, loader
from open_workshop_storage.core import errors
from open_workshop_storage.core.callback import callback_of
from open_workshop_storage.core.claims import TransferClaims
from open_workshop_storage.core.job import EventKind, Job, Stage
from tests.support.documents import Operation, operations

PROJECT = Path(__file__).resolve().parents[1]
TEXT = (PROJECT / "docs" / "API.md").read_text()
JOB = Job(job_id="job-7f3a9c21", claims=TransferClaims(job_id="job-7f3a9c21"), origin="upload", file_name="file")
OPERATIONS = [operation for app in (distributor.app, loader.app) for operation in operations(app.openapi())]

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
        elif "text/plain" not in response.get("content", {}):
            yield status, ""
        else:
            yield from ((status, message) for message in operation.messages(status))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_each_operation_is_written_about_with_all_its_statuses_and_messages(operation: Operation) -> None:
    assert written(operation) == set(described(operation))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_each_parameter_and_field_is_written_about(operation: Operation) -> None:
    section = SECTIONS[anchor(f"{operation.method} {operation.path}")]
    if operation.method == "head" or operation.id == "start_transfer_by_form":
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
    message = JOB.changed(stage=Stage.ERROR).event_text(EventKind.ERROR)
    assert named_in_table(section) == json.loads(message).keys()
    for value in (*Stage, *EventKind, *(JOB.changed(stage=stage).status for stage in Stage), "moved"):
        assert f"`{value}`" in section


def test_every_claim_of_a_callback_is_written_about() -> None:
    claims = callback_of(JOB.changed(stage=Stage.ERROR)).claims.keys() | {"aud", "iss", "iat", "exp", "jti"}
    assert named_in_table(SECTIONS["callback"]) == claims
