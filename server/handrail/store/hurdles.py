"""Why a server could not be connected to, in an operator's words: what is wrong, and which part of which setting mends
it."""

from __future__ import annotations

import socket
import ssl

import hiredis

from handrail.store.address import Address

URL = "HANDRAIL_REDIS_URL"
_HUNG_UP = ("the connection was lost", "the store sent something that is not its protocol")
RIGHTS = "give it the rights that docs/operating.md lists under Your own Redis"


def tell(error: Exception, address: Address) -> str:
    """A line about what kept a connection from being made."""
    if isinstance(error, hiredis.ReplyError):
        return f"{address.shown} does not let Handrail in: {translate(str(error), address)}"
    if isinstance(error, ssl.SSLError):
        return f"{address.shown} cannot be reached over TLS: {_of_tls(error)}"
    return f"{address.shown} cannot be reached ({_of_network(error, address)})"


def translate(answer: str, address: Address) -> str:
    """What an error answer asks of the operator; the answer itself where it is none of those that are known."""
    word, whole = answer.partition(" ")[0], answer.lower()
    if word == "WRONGPASS" or "invalid password" in whole:
        return f"user {address.username!r} has another password than {URL} says (@ / : # in it are %40 %2F %3A %23)"
    if word == "NOAUTH":
        return f"it wants a password: write {URL} as {_scheme(address)}USER:PASSWORD@… (without USER: its default user)"
    if word == "NOPERM":
        return f"user {address.username!r} lacks a right: {RIGHTS}. {answer}"
    if "db index is out of range" in whole:
        return f"it has no database {address.db}: {URL} ends in a number below its setting `databases`, or in none"
    if "select is not allowed" in whole:
        return f"a cluster has database 0 only, and {URL} names database {address.db}"
    if word == "DENIED":
        return "it is in protected mode and takes only callers of its own machine: set a password there"
    if "unknown command" in whole and "hello" in whole:
        return "it is older than Redis 6; Handrail needs Redis 7 or newer, or Valkey"
    return answer


def _scheme(address: Address) -> str:
    return "unix://" if address.path else "rediss://" if address.has_tls else "redis://"


def _of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}); name the authority that signed it in {URL}: "
            "?ssl_ca_certs=/path/ca.pem"
        )
    return (
        f"it does not speak TLS there ({error.reason}): write redis in place of rediss in {URL}, or the port of its TLS"
    )


def _of_network(error: Exception, address: Address) -> str:
    if isinstance(error, socket.gaierror):
        return f"its name is not known: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    text = str(error)
    if address.has_tls:
        return text or "no answer; does it speak TLS at that port?"
    if not address.path and text.startswith(_HUNG_UP):
        return f"{text}; if it speaks TLS, begin {URL} with rediss"
    return text or "no answer"
