"""Which network addresses a webhook may reach, judged when a socket is made: after DNS, whatever the URL looked like.

Judging here leaves no gap between the check and the connection (DNS rebinding) and no odd spelling of an address to
forget, since the resolver has already turned every spelling into the number that will be connected to.
"""

from __future__ import annotations

import errno
import socket
from functools import partial
from ipaddress import IPv4Address, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver
from aiohttp.connector import AddrInfoType, TCPConnector
from aiohttp.resolver import ThreadedResolver

ALLOW_PRIVATE = "HANDRAIL_WEBHOOK_ALLOW_PRIVATE"

_GLOBAL_UNICAST = IPv6Network("2000::/3")
# Prefixes that carry an IPv4 address in their last four bytes: mapped, IPv4-compatible, translated, NAT64.
_CARRIES_IPV4 = tuple(IPv6Network(net) for net in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96"))

Address = tuple[str, int]


class Refused(OSError):
    """The address is not on the public internet. The text is the same for every address: when all addresses of a host
    are refused, the connector raises the first refusal instead of a summary."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, f"private addresses are refused unless {ALLOW_PRIVATE} is set")


def is_public(address: str) -> bool:
    """Whether the numeric address, and any IPv4 address wrapped in it, is reachable only as part of the internet."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv4Address):
        return _is_public4(ip)
    if any(ip in network for network in _CARRIES_IPV4):
        return _is_public4(IPv4Address(int(ip) & 0xFFFF_FFFF))
    if ip.sixtofour is not None and not _is_public4(ip.sixtofour):
        return False
    return ip in _GLOBAL_UNICAST and ip.is_global


def _is_public4(ip: IPv4Address) -> bool:
    return ip.is_global and not ip.is_multicast


def open_public(info: AddrInfoType, *, own: Address | None = None) -> socket.socket:
    """A socket for the resolved address, which is public or exactly `own`. Raises Refused."""
    if info[4][:2] != own and not is_public(str(info[4][0])):
        raise Refused
    return open_any(info)


def open_any(info: AddrInfoType) -> socket.socket:
    return socket.socket(info[0], info[1], info[2])


def connector(
    *, allow_private: bool, resolver: AbstractResolver | None = None, own: Address | None = None
) -> TCPConnector:
    """Connections for webhooks; the system's resolver unless another is given. Needs a running loop.

    `own` is one (address, port) that may be called although it is private.
    """
    return TCPConnector(
        resolver=resolver or ThreadedResolver(),
        socket_factory=open_any if allow_private else partial(open_public, own=own),
        limit=0,  # the courier bounds how many run
        keepalive_timeout=30,
    )
