"""Whose address the log has when there is a reverse proxy."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from chatd.web.peers import Proxies

HERE = IPv4Address("TCP", "127.0.0.1", 5000)
PROXY = IPv4Address("TCP", "10.0.0.7", 5000)
STRANGER = IPv4Address("TCP", "203.0.113.9", 5000)

CASES: list[tuple[str, IAddress, list[str], str]] = [
    ("without a proxy", STRANGER, [], "203.0.113.9:5000"),
    ("a stranger's word counts for nothing", STRANGER, ["198.51.100.1"], "203.0.113.9:5000"),
    ("from this machine", HERE, ["198.51.100.1"], "198.51.100.1"),
    ("from this machine, by IPv6", IPv6Address("TCP", "::1", 5000), ["198.51.100.1"], "198.51.100.1"),
    ("by a socket", UNIXAddress("/run/chatd.sock"), ["198.51.100.1"], "198.51.100.1"),
    ("mapped", IPv6Address("TCP", "::ffff:127.0.0.1", 5000), ["198.51.100.1"], "198.51.100.1"),
    ("without a word", HERE, [], "127.0.0.1:5000"),
    ("a proxy that is trusted", PROXY, ["198.51.100.1"], "198.51.100.1"),
    ("what the browser claims stands further left", HERE, ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
    ("in two headers", HERE, ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
    ("through two proxies", HERE, ["198.51.100.1, 10.0.0.9"], "198.51.100.1"),
    ("an IPv6 address", HERE, ["2001:db8::1"], "2001:db8::1"),
    ("in brackets", HERE, ["[2001:db8::1]"], "2001:db8::1"),
    ("no address", HERE, ["unknown"], "127.0.0.1:5000"),
    ("no address further left", HERE, ["' OR 1=1, 10.0.0.9"], "10.0.0.9"),
    ("a forged line", HERE, ["198.51.100.1\nsaid name=root"], "127.0.0.1:5000"),
]


@pytest.mark.parametrize(("peer", "forwarded", "client"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_who_it_is(peer: IAddress, forwarded: list[str], client: str) -> None:
    assert Proxies([ip_network("10.0.0.0/24")]).client(peer, forwarded) == client


def test_a_network_must_be_named() -> None:
    assert Proxies().client(PROXY, ["198.51.100.1"]) == "10.0.0.7:5000"
