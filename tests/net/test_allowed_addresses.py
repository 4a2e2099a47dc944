"""Which addresses a URL transfer may reach."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from open_workshop_storage.utils.net.allowed_addresses import is_reachable

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "168.63.129.15",
    "168.63.129.17",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    # Teredo: server 8.8.8.8, client 1.1.1.1 with all bits flipped.
    "2001:0:808:808:0:0:fefe:fefe",
]

NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "100::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]

NOT_PUBLIC_INSIDE = [
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "::10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "64:ff9b:1::10.0.0.1",
    "::ffff:0:127.0.0.1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::1",
    # Teredo: a private client, then a private server.
    "2001:0:808:808:0:0:f5ff:fffe",
    "2001:0:a00:1:0:0:fefe:fefe",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reachable(address: str) -> None:
    assert is_reachable(ip_address(address), [])


@pytest.mark.parametrize("address", NOT_PUBLIC + NOT_PUBLIC_INSIDE)
def test_other_addresses_are_not(address: str) -> None:
    assert not is_reachable(ip_address(address), [])


@pytest.mark.parametrize("address", ["fe80::1%eth0", "2606:4700:4700::1111%1"])
def test_a_scope_id_is_never_reachable(address: str) -> None:
    assert not is_reachable(ip_address(address), [ip_network("::/0")])


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.0.0.0/8", "::ffff:10.1.2.3"),
        ("10.0.0.0/8", "64:ff9b::10.1.2.3"),
        ("10.0.0.0/8", "2002:a01:203::1"),
        ("127.0.0.1/32", "127.0.0.1"),
        ("::1/128", "::1"),
        ("fd00::/8", "fd00::7"),
        ("64:ff9b:1::/48", "64:ff9b:1::8.8.8.8"),
    ],
)
def test_an_allowed_network_opens_its_addresses(network: str, address: str) -> None:
    assert is_reachable(ip_address(address), [ip_network("192.168.0.0/16"), ip_network(network)])


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("10.0.0.0/9", "10.128.0.1"),
        ("::/0", "::ffff:127.0.0.1"),
        ("::/0", "64:ff9b::10.0.0.1"),
        ("::ffff:0:0/96", "::ffff:10.0.0.1"),
        ("2002::/16", "2002:a00:1::1"),
        ("0.0.0.0/0", "::1"),
        # Teredo: only one end is allowed.
        ("10.0.0.0/8", "2001:0:a00:1:0:0:3f57:fefe"),
    ],
)
def test_an_allowed_network_opens_no_others(network: str, address: str) -> None:
    assert not is_reachable(ip_address(address), [ip_network(network)])
