"""Says whether an outgoing connection may go to an address, judged by the address alone."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# `ipaddress.is_global` differs between the Python versions that we support.
_SPECIAL_NETWORKS: tuple[IPNetwork, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network, the unspecified address
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform, which only its own machines reach
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, withdrawn
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # protocol assignments, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_IPV6_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def is_reachable(address: IPAddress, allowed_networks: Iterable[IPNetwork]) -> bool:
    """Say whether a URL transfer may connect to an address (docs/API.md, "GET `/transfer/start`").

    It may if the address is globally routable (IANA special-purpose address registries, RFC 6890) or lies in
    an allowed network. IPv4 inside IPv6 counts as the IPv4 address, for both questions, since the packets
    end up there. An address with a scope id never counts as reachable.

    Args:
        address: The address that would be dialled.
        allowed_networks: Networks that may be reached besides public addresses.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    allowed = tuple(allowed_networks)
    return all(_is_global(target) or any(target in network for network in allowed) for target in _destinations(address))


def _is_global(address: IPAddress) -> bool:
    if isinstance(address, IPv6Address) and address not in _IPV6_UNICAST:
        return False
    return not any(address in network for network in _SPECIAL_NETWORKS)


def _destinations(address: IPAddress) -> tuple[IPAddress, ...]:
    """Return the addresses at which packets for this one arrive, behind tunnels and translators.

    Operators decide where the IPv4 address stands inside 64:ff9b:1::/48 (RFC 8215), so such an address is judged as
    it is: not public.
    """
    if isinstance(address, IPv4Address):
        return (address,)
    if address.teredo:
        return address.teredo
    embedded = address.ipv4_mapped or address.sixtofour
    if embedded is None and (address in _NAT64 or 1 < int(address) < 1 << 32):
        embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    return (embedded or address,)
