"""Errors over HTTP: `application/problem+json` (RFC 9457), never a stack trace."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from handrail.core.inputs import BadInput
from handrail.limits import TooMuch
from handrail.quarantine import corrupt_state

# What is wrong decides the status; everything else a caller got wrong is a 400.
_STATUS = {
    "bad-token": 401,
    "token-expired": 401,
    "token-revoked": 401,
    "bad-write-key": 401,
    "bad-admin-key": 401,
    "bad-origin": 403,
    "wrong-user": 403,
    "body-too-large": 413,
    "rate-limited": 429,
    "store-down": 503,
    "corrupt-state": 500,
}


def problem(
    status: int,
    detail: str,
    *,
    code: str = "about:blank",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """A problem document; `code` becomes its `type`, `more` are further members, such as `errors` for each item."""
    kind = code if code == "about:blank" else f"urn:handrail:problem:{code}"
    body = {"type": kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return Response(
        msgspec.json.encode(body), status, media_type="application/problem+json", headers=dict(headers or {})
    )


def refusal(fault: BadInput, **more: Any) -> Response:
    """The answer to a caller's mistake."""
    status = _STATUS.get(fault.code, 400)
    scheme = "Basic" if fault.code == "bad-write-key" else "Bearer"
    headers = {"WWW-Authenticate": f'{scheme} realm="handrail"'} if status == 401 else {}
    if isinstance(fault, TooMuch):
        headers["Retry-After"] = str(math.ceil(fault.wait))
    return problem(status, fault.message, code=fault.code, headers=headers, fix=fault.fix, **more)


def store_down(request: Request) -> Response:
    if request.method in ("GET", "HEAD"):
        detail = "The store cannot be reached. Ask again in a moment."
    else:
        detail = (
            "The store cannot be reached; nothing was accepted. "
            "Send the same again in a moment: nothing is applied twice."
        )
    return problem(503, detail, code="store-down", headers={"Retry-After": "2"})


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        404: f"There is nothing at {request.url.path}.",
        405: f"{request.url.path} does not take {request.method}.",
    }
    return problem(error.status_code, details.get(error.status_code, error.detail), headers=error.headers)


async def on_corrupt_state(_request: Request, _error: Exception) -> Response:
    return refusal(corrupt_state())


async def on_crash(_request: Request, _error: Exception) -> Response:
    return problem(500, "Handrail met a fault of its own. The log says more.")
