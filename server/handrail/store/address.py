"""Where the store is and how to get in, from its URL.

A server, `redis://[user:password@]host[:port][/db]` (`rediss://` with TLS) or `unix:///path`; some nodes of a cluster,
`redis+cluster://[…@]host:port,host:port`; or Sentinels and the name of what they watch,
`redis+sentinel://[…@]host:port,host:port/service[/db]`.
"""

from __future__ import annotations

import asyncio
import copy
import ssl
from difflib import get_close_matches
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from handrail.core.problems import choose
from handrail.store.protocol import StoreUnusable

SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"),
)

OPTIONS = ("db", "ssl_ca_certs", "ssl_cert_reqs", "username", "password")  # what may follow the question mark


class Address:
    """Where one server is, from a redis://, rediss:// or unix:// URL; `shown` leaves the password out."""

    backoff = (0.05, 1.0)  # the least and the most seconds between two attempts to connect

    def __init__(self, url: str) -> None:
        _check(url)
        try:
            parts: dict[str, Any] = dict(parse_url(url))
        except ValueError as error:
            raise StoreUnusable(f"HANDRAIL_REDIS_URL is not one Handrail knows: {error}") from None
        self.kind = parts.get("connection_class")
        self.host = str(parts.get("host") or "localhost")
        self.port = int(parts.get("port", 6379))
        self.path = str(parts.get("path", ""))
        self.db = int(parts.get("db", 0))
        self.username = str(parts.get("username") or "default")
        self.password = parts.get("password")
        self.authorities = parts.get("ssl_ca_certs")
        self.checked = parts.get("ssl_cert_reqs") != "none"

    @property
    def shown(self) -> str:
        return f"unix://{self.path}" if self.path else f"redis://{self.host}:{self.port}/{self.db}"

    def at(self, host: str, port: int) -> Self:
        """Another server that is entered the same way."""
        other = copy.copy(self)
        other.host, other.port, other.path = host, port, ""
        if other.kind is UnixDomainSocketConnection:
            other.kind = None
        return other

    async def dial(self, wire: asyncio.Protocol) -> None:
        loop = asyncio.get_running_loop()
        if self.kind is UnixDomainSocketConnection:
            await loop.create_unix_connection(lambda: wire, self.path)
        else:
            await loop.create_connection(lambda: wire, self.host, self.port, ssl=self._tls())

    @property
    def has_tls(self) -> bool:
        return self.kind is SSLConnection

    def _tls(self) -> ssl.SSLContext | None:
        if not self.has_tls:
            return None
        context = ssl.create_default_context(cafile=self.authorities)
        if not self.checked:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def greeting(self) -> list[tuple[Any, ...]]:
        auth = ("AUTH", self.username, self.password) if self.password else ()
        return [("HELLO", 3, *auth), *([("SELECT", self.db)] if self.db else [])]


def _check(url: str) -> None:
    """What the parser would pass over, or repeat with a part of the password. Raises StoreUnusable."""
    try:
        parts = urlsplit(url)
        odd = bool(parts.fragment) or (parts.scheme != "unix" and (parts.port == 0 or "@" in parts.path))
        odd = odd or any("@" in name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        odd = True
    if odd:
        raise StoreUnusable(
            "HANDRAIL_REDIS_URL cannot be read: a port is a number from 1 to 65535, and in user and password "
            "@ / : # ? are written %40 %2F %3A %23 %3F"
        )
    path = parts.path.strip("/")
    if parts.scheme == "unix" and not path:
        raise StoreUnusable("HANDRAIL_REDIS_URL names no socket: write unix:///path/to/socket")
    if parts.scheme != "unix" and path and not path.isdecimal():
        raise StoreUnusable(
            f"HANDRAIL_REDIS_URL ends in '/{path}', which is no number of a database: leave it out, or write /0"
        )
    _check_options(parts.query, with_tls=parts.scheme == "rediss")


def _check_options(query: str, *, with_tls: bool) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise StoreUnusable(f"HANDRAIL_REDIS_URL has an option '{name}', which is none{choose(name, OPTIONS)}")
        if name.startswith("ssl_") and not with_tls:
            raise StoreUnusable(f"HANDRAIL_REDIS_URL has '{name}', which goes with TLS only: begin it with rediss")
        if name == "db" and not value.isdecimal():
            raise StoreUnusable(f"HANDRAIL_REDIS_URL has db={value}, which is no number of a database")
        if name == "ssl_cert_reqs" and value not in ("none", "required"):
            raise StoreUnusable(f"HANDRAIL_REDIS_URL has ssl_cert_reqs={value}: it is required (the default) or none")
        if name == "ssl_ca_certs":
            _check_authorities(value)


def _check_authorities(path: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as fault:
        why = "has no certificates in it" if isinstance(fault, ssl.SSLError) else f"cannot be read: {fault.strerror}"
        raise StoreUnusable(f"HANDRAIL_REDIS_URL has ssl_ca_certs={path}, which {why}") from None


class Site(NamedTuple):
    """What a URL names. `kind`: server, cluster or sentinel. `addresses`: that server, nodes of the cluster, or the
    Sentinels; `service`: what these call the servers they watch."""

    kind: str
    addresses: tuple[Address, ...]
    service: str = ""


def locate(url: str) -> Site:
    """Raises StoreUnusable for a URL that is none of these forms."""
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        near = get_close_matches(scheme, SCHEMES, 1)
        hint = f"; did you mean {near[0]}://?" if near else ""
        if "://" not in url and url and "@" not in url:
            hint = f"; did you mean redis://{url}?"
        raise StoreUnusable(f"HANDRAIL_REDIS_URL must begin with one of {', '.join(f'{s}://' for s in SCHEMES)}{hint}")
    if "+" not in scheme:
        return Site("server", (Address(url),))
    parts = urlsplit(url)
    transport, _, kind = scheme.partition("+")
    entry, _, hosts = parts.netloc.rpartition("@")
    path = [piece for piece in parts.path.split("/") if piece]
    service, db = _read_path(kind, path)
    query = f"?{parts.query}" if parts.query else ""
    at = f"{entry}@" if entry else ""
    if not all(hosts.split(",")):
        raise StoreUnusable(f"HANDRAIL_REDIS_URL names no server: write {scheme}://host:port,host:port")
    return Site(kind, tuple(Address(f"{transport}://{at}{host}{db}{query}") for host in hosts.split(",")), service)


def _read_path(kind: str, path: list[str]) -> tuple[str, str]:
    """(service, /db) of what follows the hosts."""
    if kind == "cluster":
        if path not in ([], ["0"]):
            raise StoreUnusable(
                f"HANDRAIL_REDIS_URL names database {'/'.join(path)}, but a cluster has database 0 only"
            )
        return "", ""
    if len(path) not in (1, 2) or not all(each.isdecimal() for each in path[1:]):
        raise StoreUnusable(
            "HANDRAIL_REDIS_URL must end in the name that the Sentinels watch: …/SERVICE or …/SERVICE/DB"
        )
    return path[0], "".join(f"/{each}" for each in path[1:])
