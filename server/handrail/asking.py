"""Asking a running server, for commands that tell what it knows."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

import msgspec

from handrail.settings import OperatorError, is_loopback

PATIENCE = 10.0  # seconds


def ask(url: str, path: str, key: str) -> bytes:
    """The JSON that the server at `url` has at `path`; `key` is its admin key or empty.

    Raises OperatorError with what to do about it.
    """
    return b"".join(read_lines(url, path, key))


def read_lines(url: str, path: str, key: str) -> Iterator[bytes]:
    """The same, line by line as they arrive."""
    where = urlsplit(url)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise OperatorError(f"'{url}' is not the address of a server: write it as http://127.0.0.1:8000")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with _opener(where.hostname).open(
            Request(f"{url.rstrip('/')}{path}", headers=headers), timeout=PATIENCE
        ) as found:
            yield from found
    except HTTPError as fault:
        raise OperatorError(_refusal(fault)) from None
    except HTTPException:
        raise OperatorError(f"the server at {url} broke off in the middle of its answer") from None
    except (URLError, OSError) as fault:
        reason = getattr(fault, "reason", fault)
        why = getattr(reason, "strerror", None) or reason
        raise OperatorError(
            f"no server answers at {url} ({why}): start one with handrail serve, or name the one you mean with --url"
        ) from None


def _opener(host: str) -> OpenerDirector:
    """No proxy can reach a server on this machine."""
    return build_opener(ProxyHandler({})) if is_loopback(host) else build_opener(HTTPHandler, HTTPSHandler)


def _refusal(fault: HTTPError) -> str:
    try:
        said = msgspec.json.decode(fault.read())
        return " ".join(filter(None, (said["detail"], said.get("fix"))))
    except (msgspec.DecodeError, KeyError, TypeError, OSError):
        return f"the server answered {fault.code} {fault.reason}: is it Handrail?"
