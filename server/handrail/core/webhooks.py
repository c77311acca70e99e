"""Webhooks of the rule files: their shape, and what a process knows of one once its environment is read.

`${NAME}` stands for an environment variable in `url`, `secret` and `headers`, nowhere else. A variable that is unset or
empty parks the webhook: calls to it wait in the store until a process that knows the variable comes along.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from handrail.core.names import Name
from handrail.core.source import Shape

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 24  # Standard Webhooks asks for at least this many
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f]")
# Written by the sender itself; a second one would break framing or the signature.
_OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host", "te"}
    | {"trailer", "transfer-encoding", "upgrade", "webhook-id", "webhook-signature", "webhook-timestamp"}
)


class WebhookShape(Shape):
    """The document `webhook: NAME` as its author writes it."""

    webhook: Name
    description: str = ""
    url: str
    secret: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    channel: Literal["email"] | None = None
    body: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where to POST and how to sign. `body` is the author's value, templates not rendered; `key` None means unsigned.

    With `missing` (names of unset variables, sorted) the webhook is parked and url, key, headers are not to be used.
    """

    name: str
    url: str = field(repr=False)
    key: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    channel: str | None = None
    body: Any = None
    description: str = ""
    missing: tuple[str, ...] = ()


class Flaw(NamedTuple):
    """Something wrong at `at`, a path of keys into the document; severity is `error` or `warning`."""

    at: tuple[str | int, ...]
    message: str
    severity: str = "error"


def compile_webhook(shape: WebhookShape, environ: Mapping[str, str]) -> tuple[Webhook, tuple[Flaw, ...]]:
    """The webhook and what is wrong with it; with an error among the flaws it must not be used.

    No flaw ever quotes a value that came from the environment.
    """
    reading = _Reading(environ)
    webhook = Webhook(
        name=shape.webhook,
        url=reading.url(shape.url),
        key=reading.key(shape.secret),
        headers={name: reading.header(name, text) for name, text in shape.headers.items()},
        channel=shape.channel,
        body=shape.body,
        description=shape.description,
        missing=tuple(sorted(reading.missing)),
    )
    for at, found in _references(shape.body, ("body",)):
        reading.fault(at, f"'{found}' has no meaning here: environment variables are for url, secret and headers")
    return webhook, tuple(reading.flaws)


class _Reading:
    """One document being read against one environment: gathers the flaws and the unset names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.variables = environ
        self.flaws: list[Flaw] = []
        self.missing: set[str] = set()

    def fault(self, at: tuple[str | int, ...], message: str, severity: str = "error") -> None:
        if message:
            self.flaws.append(Flaw(at, message, severity))

    def text(self, text: str, *at: str) -> str | None:
        """The text with its references filled in, or None when one is unset."""
        value, unset = expand(text, self.variables)
        if "${" in _REFERENCE.sub("", text):
            self.fault(at, "'${' must be followed by the name of an environment variable and '}'")
        for name in sorted(unset - self.missing):
            self.fault(at, f"the environment variable {name} is not set: calls wait until it is", "warning")
        self.missing |= unset
        return None if unset else value.strip()

    def url(self, text: str) -> str:
        url = self.text(text, "url")
        if url is not None:
            self.fault(("url",), url_fault(url))
        return url or ""

    def key(self, text: str | None) -> bytes | None:
        if text is None:
            message = "the webhook has no 'secret': its calls are not signed, and anyone could forge them"
            self.fault(("webhook",), message, "warning")
            return None
        secret = self.text(text, "secret")
        if secret is None:
            return None
        key, fault, severity = read_secret(secret)
        self.fault(("secret",), fault, severity)
        return key

    def header(self, name: str, text: str) -> str:
        value = self.text(text, "headers", name) or ""
        self.fault(("headers", name), header_fault(name, value))
        return value


def expand(text: str, environ: Mapping[str, str]) -> tuple[str, set[str]]:
    """The text with every `${NAME}` replaced, and the names that are unset or empty (replaced by nothing)."""
    missing = {name for name in _REFERENCE.findall(text) if not environ.get(name)}
    return _REFERENCE.sub(lambda match: environ.get(match[1], ""), text), missing


def url_fault(url: str) -> str:
    """What keeps the text from being a usable address, or nothing. Where it leads is judged when connecting."""
    if _NOT_IN_A_URL.search(url):
        return "the address has a blank or a control character in it"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "the address cannot be read: its host or port is malformed"
    if parts.scheme not in ("http", "https"):
        return "the address must begin with https:// or http://"
    if not parts.hostname or port == 0:
        return "the address needs a host, as in https://mail.example/hooks"
    return ""


def read_secret(secret: str) -> tuple[bytes | None, str, str]:
    """(signing key, fault, its severity): `whsec_` and base64, as in Standard Webhooks, or the key as text."""
    if not secret.startswith(SECRET_PREFIX):
        if not secret:
            return None, "the secret is empty: leave 'secret' out to send unsigned", "error"
        key = secret.encode()
    else:
        digits = secret.removeprefix(SECRET_PREFIX).rstrip("=")
        try:
            key = b64decode(digits + "=" * (-len(digits) % 4), validate=True)
        except ValueError:
            key = b""
        if not key:
            return None, f"what follows {SECRET_PREFIX} must be base64", "error"
    if len(key) < SECRET_BYTES:
        return key, f"the secret is short: Standard Webhooks asks for at least {SECRET_BYTES} bytes", "warning"
    return key, "", ""


def header_fault(name: str, value: str) -> str:
    """What keeps the header from being sent, or nothing."""
    if not _HEADER_NAME.fullmatch(name):
        return f"{name!r} is not a header name"
    if name.lower() in _OWN_HEADERS:
        return f"the header {name} is set by Handrail itself"
    if not _HEADER_VALUE.fullmatch(value):
        return f"the value of the header {name} must be plain ASCII on one line"
    return ""


def _references(value: Any, at: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        return [(at, match[0]) for match in _REFERENCE.finditer(value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in _references(item, (*at, key))]
