"""Running the server: the listening socket, the embedded store, one process or several, and a clean end."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from handrail import edge
from handrail.app import build, preflight
from handrail.edge.sockets import harden
from handrail.line import Line
from handrail.logs import Cap, PlainFormatter, escape_values
from handrail.processes import Processes
from handrail.settings import OperatorError, Role, Settings
from handrail.signals import REQUESTS_WITHIN, STUCK_AFTER
from handrail.store import StoreDown, StoreUnusable, launch
from handrail.strangers import find_strangers
from handrail.web import demo

_PR_SET_PDEATHSIG = 1

log = structlog.get_logger(__name__)


def serve(
    settings: Settings, environ: Mapping[str, str], *, child: Sequence[str], announce: Callable[[str], None]
) -> None:
    """Serve until told to stop; `announce` is given the server's URL once it answers.

    `environ` is that of this process; children have it, too, and the settings as they are here. `child` is the command
    that starts one: a program that calls `serve_child` with the three numbers that it is given. Raises OperatorError.
    """
    _log_to_stderr(settings.log_level)
    _leave_on_signals()
    for line in find_strangers(environ, [settings.rules, demo.RULES]):
        log.warning(line)
    with bind(settings.host, settings.port) as listening, _operator_faults(), _store_url(settings) as url:
        here = {"redis_url": url, "role": _effective_role(settings), "port": listening.getsockname()[1]}
        shared = settings.model_copy(update=here)
        asyncio.run(preflight(shared))
        ready = partial(announce, address(listening))
        if settings.workers == 1:
            application = build(shared, environ=environ, at_work=_at_work(shared), warned=True)
            _run(_Server(uvicorn.Config(application, **_options(shared)), ready), listening)
        else:
            asyncio.run(_run_processes(child, {**environ, **shared.to_environ()}, shared, listening, ready))
            _leave_on_signals()  # asyncio left them to the system


def serve_child(settings: Settings, environ: Mapping[str, str], *, parent: int, line: int, listening: int) -> None:
    """Serve as one of several processes, which does not outlive its parent: `line` and `listening` are numbers of open
    files. Raises OperatorError."""
    _log_to_stderr(settings.log_level)
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # when all is settled, it ends by the signal that it was told to end by
    _die_with_parent(parent)
    with _operator_faults():
        try:
            asyncio.run(preflight(settings, warn=False))
        except StoreDown as fault:  # which passes; what else keeps it from starting does not
            log.error("the store is away, so that no process can start", why=str(fault))
            raise SystemExit(1) from None
        told = Line(socket.socket(fileno=line))
        application = build(settings, environ=environ, at_work=_at_work(settings), warned=True, line=told)
    server = _Server(uvicorn.Config(application, **_options(settings)), told.ready)
    told.step_back = server.step_back
    _run(server, socket.socket(fileno=listening))


def _at_work(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "at-work"


def bind(host: str, port: int) -> socket.socket:
    """A listening address of our own. Raises OperatorError with one clear line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
        listening.listen(2048)
    except (OSError, UnicodeError) as fault:
        listening.close()
        why = fault.strerror if isinstance(fault, OSError) else str(fault)
        other = "--port" if getattr(fault, "errno", None) in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise OperatorError(f"cannot listen on {host} port {port}: {why}; try another with {other}") from None
    listening.set_inheritable(True)
    return harden(listening)


def address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _store_url(settings: Settings) -> Iterator[str]:
    """The URL of the store to use; an embedded one runs as long as the context."""
    if settings.redis_url:
        yield settings.redis_url
        return
    with launch(settings.data_dir.absolute()) as embedded:
        yield embedded.url


@contextmanager
def _operator_faults() -> Iterator[None]:
    """What keeps a server from starting, in the one form that is told to the operator."""
    try:
        yield
    except (StoreUnusable, StoreDown, ValueError) as fault:
        raise OperatorError(str(fault)) from fault


def _effective_role(settings: Settings) -> Role:
    """No worker can share an embedded store, so who owns one does the worker's part as well."""
    return settings.role if settings.redis_url else "all"


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "lifespan": "on",  # a server whose start failed must not answer
        "loop": "uvloop" if sys.platform != "win32" else "asyncio",
        **edge.options(),
        "timeout_graceful_shutdown": REQUESTS_WITHIN,
        "forwarded_allow_ips": list(settings.proxies),
        "log_config": None,
        "access_log": False,
        "server_header": False,
    }


def _run(server: _Server, listening: socket.socket) -> None:
    server.run(sockets=[listening])
    if not server.started:
        raise OperatorError("the server could not start; the log above says why")


async def _run_processes(
    child: Sequence[str],
    environ: Mapping[str, str],
    settings: Settings,
    listening: socket.socket,
    ready: Callable[[], None],
) -> None:
    patience = settings.drain_ms / 1_000 + STUCK_AFTER
    await Processes(child, environ, listening, count=settings.workers, ready=ready, patience=patience).run()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def step_back(self) -> None:
        """Accept nobody any more; who is here stays. Those who wait at the door go to others that hold it open."""
        for each in self.servers:
            each.close()


def _die_with_parent(parent: int) -> None:
    """Have the kernel stop this process when its parent is gone, however that ended (Linux; elsewhere it lingers)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it went before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def _leave_on_signals() -> None:
    """Make SIGTERM and ctrl-C unwind, so that what was opened is closed; uvicorn hands them on at its end."""

    def leave(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def _log_to_stderr(level: str) -> None:
    """Plain lines: time, level, what happened, and the facts as key=value; coloured on a terminal.

    Tracebacks are Python's own: prettier ones print the values of variables, which are what users did and who they are.
    Of lines of one kind, ten a second are written.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            Cap(),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            escape_values,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s [%(levelname)s] %(message)s"))
    handler.addFilter(Cap())
    logging.basicConfig(level=max(least, logging.WARNING), handlers=[handler])
    logging.getLogger("uvicorn.error").addFilter(is_ours)


def is_ours(record: logging.LogRecord) -> bool:
    """Whether an error that uvicorn reports is one of the server, and not what any caller can bring about: what is no
    HTTP."""
    return not record.getMessage().startswith("Invalid HTTP request")
