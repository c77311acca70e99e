"""Every setting, in one table: what the server reads, what `handrail serve --help` prints and what the docs list."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from handrail.core.durations import parse_duration
from handrail.core.problems import suggest

Role = Literal["all", "web", "worker"]


class OperatorError(Exception):
    """Something outside the program keeps it from working; the text says what to do about it."""


class SettingsError(OperatorError):
    """The settings cannot be used. `lines` says every reason, one a line."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def _split(value: object) -> object:
    return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value


def _switch(value: object) -> object:
    words = {"1": True, "on": True, "true": True, "yes": True, "0": False, "off": False, "false": False, "no": False}
    return words.get(value.strip().lower(), value) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+/?", re.ASCII | re.IGNORECASE)


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            why = "'{origin}' is no origin: write scheme, host and perhaps port, such as https://app.example.com"
            raise PydanticCustomError("origin", why, {"origin": origin})
        if not origin.isascii():
            why = "'{origin}' would never match: write its host as browsers send it, which begins with xn--"
            raise PydanticCustomError("origin", why, {"origin": origin})
    return origins


def _check_duration(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as fault:
        raise PydanticCustomError("duration", "{why}", {"why": str(fault)}) from None
    return text


def _check_span(text: str) -> str:
    if not parse_duration(_check_duration(text)):
        raise PydanticCustomError("duration", "it has to be longer than 0s")
    return text


def _check_proxies(proxies: tuple[str, ...]) -> tuple[str, ...]:
    for proxy in proxies:
        try:
            network = ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            why = "'{proxy}' is no address or network: write such as 10.0.0.7 or 10.0.0.0/8"
            raise PydanticCustomError("proxy", why, {"proxy": proxy}) from None
        if "/" in proxy and str(network.network_address) != str(ipaddress.ip_interface(proxy).ip):
            why = "'{proxy}' is an address with a mask: write {network}, or the address alone"
            raise PydanticCustomError("proxy", why, {"proxy": proxy, "network": str(network)})
    return proxies


Proxies = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_check_proxies)]
Count = Annotated[int | None, Field(ge=0)]
Span = Annotated[str, AfterValidator(_check_span)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Duration = Annotated[str, AfterValidator(_check_duration)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_check_origins)]


class Settings(BaseModel):
    """What an operator chose. Field `x` is read from `HANDRAIL_X`; flags of `serve` go before the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on; off loopback keys are required")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one and says which")
    workers: int = Field(1, ge=1, le=64, description="processes that serve, as one server")
    role: Annotated[Role, BeforeValidator(_lower)] = Field(
        "all", description="all, web (connections and HTTP) or worker (timers and webhooks)"
    )
    redis_url: str | None = Field(
        None,
        description="URL of the store: redis://, rediss://, unix://, redis+cluster:// or redis+sentinel://; without it "
        "Valkey is embedded",
    )
    ack: Annotated[Literal["accepted", "replicated", "durable"], BeforeValidator(_lower)] = Field(
        "accepted",
        description="what an acknowledgement is worth: accepted, replicated or durable",
    )
    data_dir: Path = Field(
        Path(".handrail"),
        description="where the embedded store keeps its files, and processes note what they are deciding",
    )
    rules: Path = Field(Path("rules"), description="folder of rule files")
    client_secret: str | None = Field(
        None, min_length=32, repr=False, description="secret of HS256 client tokens, at least 32 characters"
    )
    client_public_key: str | None = Field(
        None, repr=False, description="PEM public key of EdDSA or RS256 client tokens, in place of the secret"
    )
    token_max_age: Span | None = Field(
        None, description="client tokens must expire, at most this far ahead, such as 1h; unset: as they say"
    )
    token_audience: str | None = Field(
        None, min_length=1, description="audience (aud) that client tokens must be for; unset: they name none"
    )
    write_key: str | None = Field(None, min_length=1, repr=False, description="key that servers send events with")
    admin_key: str | None = Field(None, min_length=1, repr=False, description="bearer key of the admin API")
    origins: Origins = Field((), description="origins of pages that may connect, separated by commas")
    country_header: str | None = Field(
        None, pattern="^[A-Za-z0-9-]+$", description="header in which your proxy names a visitor's country, two letters"
    )
    webhook_allow_private: Switch = Field(False, description="let webhooks go to private addresses (on or off)")
    demo: Switch | None = Field(None, description="serve /demo (on or off); unset: on where it listens on loopback")
    drain: Duration = Field(
        "10s", description="how long a server that stops takes at most to send thousands of connections away"
    )
    handshake_rate: Count = Field(
        None,
        description="connections a process takes in a second; 0 sets no bound, here and below. Unset: 500; none on "
        "loopback without origins, here and below",
    )
    address_handshake_rate: Count = Field(
        None, description="connections one address may open to a process in a second; unset: 50"
    )
    address_connections: Count = Field(None, description="connections one address may have to a process; unset: 1000")
    address_failures: Count = Field(
        None, description="failed authentications of one address at a process in a minute; unset: 12"
    )
    user_connections: int = Field(100, ge=0, description="connections one user may have; 0 sets no bound")
    message_rate: Count = Field(
        None, description="messages a second of one connection, or of one user to a process; unset: 100"
    )
    write_rate: Count = Field(None, description="events a second sent with the write key to a process; unset: 5000")
    proxies: Proxies = Field(
        ("127.0.0.1", "::1"), description="addresses or networks of proxies whose X-Forwarded-For is believed"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="least level that is logged"
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **flags: Any) -> Self:
        """Settings from `HANDRAIL_*` variables and the flags that were given (None: not given).

        Raises SettingsError with a line for every value that cannot be used.
        """
        given = {name: value for name in cls.model_fields if (value := environ.get(variable(name), "").strip())}
        given |= {name: value for name, value in flags.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as fault:
            raise SettingsError([_explain(error) for error in fault.errors()]) from None

    def to_environ(self) -> dict[str, str]:
        """The variables from which a child process reads these same settings."""
        return {variable(name): _spell(value) for name, value in self if value not in (None, ())}

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def guarded(self) -> bool:
        """Whether others can reach the server, so that there are limits to what they may do."""
        return not self.loopback or bool(self.origins)

    @property
    def with_demo(self) -> bool:
        return self.loopback if self.demo is None else self.demo

    @property
    def drain_ms(self) -> int:
        return parse_duration(self.drain)

    def refusals(self) -> list[str]:
        """Why these settings must not be served, one line each; nothing if they may."""
        return [*self._unguarded(), *self._contradictions()]

    def _unguarded(self) -> list[str]:
        if self.loopback:
            return []
        needed = {
            "HANDRAIL_CLIENT_SECRET or HANDRAIL_CLIENT_PUBLIC_KEY": self.client_secret or self.client_public_key,
            "HANDRAIL_WRITE_KEY": self.write_key,
            "HANDRAIL_ADMIN_KEY": self.admin_key,
            "HANDRAIL_ORIGINS": self.origins,
        }
        missing = [name for name, value in needed.items() if not value]
        if not missing:
            return []
        return [f"{self.host} can be reached from other machines, so these must be set: {', '.join(missing)}"]

    def _contradictions(self) -> list[str]:
        found = []
        if self.client_secret and self.client_public_key:
            found.append("set HANDRAIL_CLIENT_SECRET or HANDRAIL_CLIENT_PUBLIC_KEY, not both")
        if self.role == "worker" and not self.redis_url:
            found.append(
                "a worker shares the store of the servers: set HANDRAIL_REDIS_URL (a server with the embedded store "
                "does the worker's part itself)"
            )
        if self.ack == "replicated" and not self.redis_url:
            found.append("the embedded store has no replica: set HANDRAIL_REDIS_URL, or HANDRAIL_ACK=durable")
        return found


def variable(name: str) -> str:
    return f"HANDRAIL_{name.upper()}"


def table() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, as help and docs print them."""
    return [
        (variable(name), _spell(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def is_loopback(host: str) -> bool:
    """Whether a listening address is this machine only; a name other than localhost may be anything, so it is not."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _spell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _explain(error: ErrorDetails) -> str:
    """One of pydantic's errors as it is told to an operator; secrets are not repeated."""
    name, limits = str(error["loc"][0]), error.get("ctx", {})
    given = f"'{error['input']}'" if Settings.model_fields[name].repr else "the value"
    said = {
        "int_parsing": f"{given} is no whole number",
        "int_from_float": f"{given} is no whole number",
        "bool_parsing": f"{given} is neither on nor off",
        "bool_type": f"{given} is neither on nor off",
        "greater_than_equal": f"{given} is less than {limits.get('ge')}",
        "less_than_equal": f"{given} is more than {limits.get('le')}",
        "string_too_short": f"{given} is shorter than {limits.get('min_length')} characters",
        "string_pattern_mismatch": f"{given} has characters in it other than letters, digits and -",
        "literal_error": f"{given} is none of {_join(limits)}{_suggest(error['input'], limits)}",
    }
    message = said.get(error["type"]) or f"{error['msg'][:1].lower()}{error['msg'][1:]}"
    return f"{variable(name)}: {message}"


def _join(limits: Mapping[str, Any]) -> str:
    return str(limits.get("expected", "")).replace("'", "").replace(" or ", ", ")


def _suggest(given: object, limits: Mapping[str, Any]) -> str:
    return suggest(str(given), _join(limits).split(", "), cutoff=0.6)
