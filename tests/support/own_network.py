"""Fetches by real look-ups in a network of its own: to be run by `unshare --user --map-root-user --net --mount`.

There is a DNS server that answers as each name is meant to be, and an origin at a public address. What came of each
fetch is printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from ipaddress import ip_address
from typing import cast

from open_workshop_storage.core.errors import StorageError
from tests.support.origins import CERTIFICATE, Request, fetched, fetcher, reply, running_origin

PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.1"
ANSWERS: dict[str, list[list[str]]] = {
    "public": [[PUBLIC]],
    "private": [[PRIVATE]],
    "mixed": [[PUBLIC, PRIVATE]],
    "mixed-6": [[PUBLIC, "::1"]],
    "translated": [["64:ff9b::a00:1"]],
    "mapped": [["::ffff:10.0.0.1"]],
    "rebinding": [[PUBLIC], [PRIVATE]],
    "rebinding-redirect": [[PUBLIC], [PRIVATE]],
}
"""Addresses by name: for the first look-up, the second, and so on; the last ones stay."""

_A, _AAAA = 1, 28


class Names(asyncio.DatagramProtocol):
    """A DNS server (RFC 1035, section 4)."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, int]] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers go out by."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        end = data.index(0, 12) + 5
        kind = int.from_bytes(data[end - 4 : end - 2], "big")
        name = data[13 : 13 + data[12]].decode()
        turns = ANSWERS[name]
        found = [ip_address(text) for text in turns[min(self.asked[name, kind], len(turns) - 1)]]
        self.asked[name, kind] += 1
        wanted = [address.packed for address in found if address.version == (6 if kind == _AAAA else 4)]
        records = b"".join(
            b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1" + bytes(4) + len(packed).to_bytes(2, "big") + packed
            for packed in wanted
        )
        counts = b"\0\1" + len(wanted).to_bytes(2, "big") + bytes(4)
        self._transport.sendto(data[:2] + b"\x81\x80" + counts + data[12:end] + records, addr)


def set_up() -> None:
    """Give this network its addresses, and its processes the DNS server."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (PUBLIC, PRIVATE):
        subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("nameserver 127.0.0.1\noptions timeout:5\n")
        file.flush()
        subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)


async def main() -> None:
    """Fetch from each name, and print what came of it."""
    os.environ["SSL_CERT_FILE"] = str(CERTIFICATE)
    names = Names()
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: names, local_addr=("127.0.0.1", 53))

    async def answer(request: Request, writer: asyncio.StreamWriter) -> bytes:
        return reply(302, "Location: /again") if request.target == "/redirect" else reply(200, body=b"file")

    async with AsyncExitStack() as stack:
        _, *inside = [
            await stack.enter_async_context(running_origin(answer, host=host, port=80))
            for host in (PUBLIC, PRIVATE, "127.0.0.1")
        ]
        using = fetcher(allowed="")
        came: dict[str, list[str]] = {}
        for name in (*ANSWERS, "rebinding"):
            path = "/redirect" if name.endswith("-redirect") else "/"
            try:
                outcome = (await fetched(using, f"http://{name}.test{path}")).decode()
            except StorageError as error:
                outcome = error.reason
            came.setdefault(name, []).append(outcome)
        connections = sum(len(origin.left) for origin in inside)
        asked = {name: names.asked[name, _A] for name in ANSWERS}
    print(json.dumps({"came": came, "asked": asked, "connections_inside": connections}))


if __name__ == "__main__":
    set_up()
    asyncio.run(main())
