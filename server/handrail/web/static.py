"""Folders of page files, listed once and served by exact name: what was not there at the start cannot be asked for."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

MEDIA = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}
PACKAGED = Path(__file__).parent / "pages" / "client"
CHECKOUT = Path(__file__).parents[3] / "client_js" / "src"


def client_folder() -> Path:
    """Where the browser client is: inside the installed package, or in the checkout beside the server."""
    return PACKAGED if PACKAGED.is_dir() else CHECKOUT


def serve_folder(prefix: str, folder: Path, *, any_origin: bool = False) -> list[Route]:
    """A route for each file of `folder` of a kind that pages are made of.

    `any_origin` lets pages of other origins import them: modules need that, and these are public anyway.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in MEDIA and path.is_file())
    return [_route(f"{prefix}/{path.relative_to(folder).as_posix()}", path, any_origin) for path in files]


def _route(at: str, path: Path, any_origin: bool) -> Route:
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if any_origin:
        headers |= {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}

    def answer(request: Request) -> Response:
        body = path.read_bytes()  # read afresh, so that an edit shows on reload; the files are a few kB
        tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers | {"ETag": tag})
        return Response(body, media_type=MEDIA[path.suffix], headers=headers | {"ETag": tag})

    return Route(at, answer)
