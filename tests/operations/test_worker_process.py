"""What the kernel is told about connections."""

from __future__ import annotations

import socket

import pytest

from open_workshop_storage.services.operations.worker_process import drop_stalled_connections

pytestmark = pytest.mark.anyio


async def test_connections_of_every_listening_socket_are_probed_and_cut_off_when_they_stall() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await drop_stalled_connections(7)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
