"""The list of refusals and failures."""

from __future__ import annotations

import pytest

from open_workshop_storage.core import errors


def subclasses(base: type[errors.StorageError]) -> list[type[errors.StorageError]]:
    """Return all classes below one."""
    return [each for child in base.__subclasses__() for each in (child, *subclasses(child))]


ALL = [error for error in subclasses(errors.StorageError) if error.__module__ == errors.__name__]


@pytest.mark.parametrize("error", ALL)
def test_each_has_a_status_of_an_error_and_a_short_message(error: type[errors.StorageError]) -> None:
    assert 400 <= error.status <= 599
    assert error.message and len(error.message) < 80 and error.message.isprintable()


@pytest.mark.parametrize("error", [error for error in ALL if error.status in (429, 503)])
def test_what_may_pass_says_when_to_come_again(error: type[errors.StorageError]) -> None:
    assert error.retry_after is not None and error.retry_after > 0


def test_a_class_has_of_its_base_what_it_does_not_say_itself() -> None:
    assert (errors.BadRequest.status, errors.BadRequest.reason) == (400, errors.StorageError.reason)
    assert errors.NewerRecord.status == errors.ServiceUnavailable.status
    assert errors.StorageError.status == 500 and errors.StorageError.retry_after is None


def test_one_occurrence_may_have_a_text_of_its_own() -> None:
    assert str(errors.BadRequest("Path missing")) == errors.BadRequest("Path missing").message == "Path missing"
    assert str(errors.BadRequest()) == errors.BadRequest.message


def test_statuses_of_other_servers_are_passed_on() -> None:
    refused, origin = errors.AccessServiceRefused(451, "Not here"), errors.OriginRefused(404)
    assert (refused.status, refused.message) == (451, "Not here")
    assert (origin.status, origin.reason, origin.message) == (502, "status:404", "Download failed with status 404")
