"""Forms that are refused before their file has come in (wire contract, section 4)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.servers import Server
from tests.support.services import Services, running_services

LIMIT = 1_000_000
BEGINNING = (
    '--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n{token}\r\n'
    '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nthe first bytes'
)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with running_services(tmp_path_factory.mktemp("limited"), apps=["loader"], UPLOAD_MAX_BYTES=LIMIT) as running:
        yield running


def answer_to_beginning(loader: Server, token: str, announced: int) -> str:
    """Send the beginning of a form and no more; return what is answered meanwhile."""
    head = (
        "POST /upload HTTP/1.1\r\nHost: storage\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {announced}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", loader.port), timeout=30) as connection:
        connection.sendall((head + BEGINNING.format(token=token)).encode())
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.partition(b"\r\n\r\n")[2]:
            piece = connection.recv(65536)
            assert piece, f"closed after {answer!r}"
            answer += piece
    return answer.decode()


def test_a_wrong_token_is_refused_before_the_file_comes(limited: Services) -> None:
    answer = answer_to_beginning(limited.servers["loader"], "wrong", LIMIT)
    assert answer.startswith("HTTP/1.1 403 ")
    assert answer.endswith("\r\n\r\nAccess denied")


def test_an_announced_size_over_the_limit_is_refused_at_once(limited: Services) -> None:
    answer = answer_to_beginning(limited.servers["loader"], limited.secrets.upload_file, 10 * LIMIT)
    assert answer.startswith("HTTP/1.1 413 ")
    assert answer.endswith("\r\n\r\nFile too large")
