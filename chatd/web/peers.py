"""Who is behind a reverse proxy."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from twisted.internet import address
from twisted.internet.interfaces import IAddress

from chatd.server import address as shown

Network: TypeAlias = IPv4Network | IPv6Network


class Proxies:
    """The peers that may say for whom they speak: those on this machine, and those in the networks."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = networks

    def client(self, peer: IAddress, forwarded: Sequence[str]) -> str:
        """The address of who is behind a connection, as the log has it. `forwarded` are the values of
        X-Forwarded-For: each proxy adds, at the end, whom it got the request from."""
        host = _parsed(peer.host) if isinstance(peer, address.IPv4Address | address.IPv6Address) else None
        if host is not None and not self._trusted(host):
            return shown(peer)
        client = None
        hops = [hop for value in forwarded for hop in value.split(",")]
        for hop in reversed(hops):
            said = _parsed(hop)
            if said is None:
                break
            client = said
            if not self._trusted(said):
                break
        return shown(peer) if client is None else str(client)

    def _trusted(self, host: IPv4Address | IPv6Address) -> bool:
        return host.is_loopback or any(host in network for network in self._networks)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        host = ip_address(text.strip().removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return getattr(host, "ipv4_mapped", None) or host
