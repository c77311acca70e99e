"""Running the server: the listening socket, the embedded store, one process or several, and a clean end."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from uvicorn.supervisors import Multiprocess

from handrail.live.sockets import harden
from handrail.settings import Settings
from handrail.store import launch

GRACE = 3  # seconds that open requests get at the end, after live connections were told to go
READY_WITHIN = 30.0  # seconds that a new process may take to start
_PR_SET_PDEATHSIG = 1


class OperatorError(Exception):
    """Something outside the program keeps it from starting; the text says what to do."""


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
        raise OperatorError(f"cannot listen on {host} port {port}: {why}; try another with --port") from None
    listening.set_inheritable(True)
    return harden(listening)


def address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def store_url(settings: Settings) -> Iterator[str]:
    """The URL of the store to use; an embedded one runs as long as the context."""
    if settings.redis_url:
        yield settings.redis_url
        return
    data = Path(settings.data_dir).absolute()
    with launch(data) as embedded:
        yield embedded.url


def run(
    settings: Settings,
    application: Callable[[], Any],
    *,
    factory: str,
    listening: socket.socket,
    ready: Callable[[], None],
) -> None:
    """Serve until told to stop. `factory` names, for child processes, the function that makes their application.

    Raises OperatorError when the server could not start.
    """
    options: dict[str, Any] = {
        "loop": "uvloop" if sys.platform != "win32" else "asyncio",
        "http": "httptools",
        "ws": "websockets-sansio",
        "ws_per_message_deflate": False,
        "ws_max_size": 65_536,
        "timeout_graceful_shutdown": GRACE,
        "log_config": None,
        "access_log": False,
        "server_header": False,
    }
    if settings.workers == 1:
        config = uvicorn.Config(application, factory=True, **options)
        server = _Server(config, ready)
        server.run(sockets=[listening])
        if not server.started:
            raise OperatorError("the server could not start; the log above says why")
        return
    supervisor = _Processes(uvicorn.Config(factory, factory=True, workers=settings.workers, **options), [listening])
    supervisor.announce(ready)
    supervisor.run()
    if not supervisor.served:
        raise OperatorError("the servers could not start; the log above says why")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


class _Processes(Multiprocess):
    """uvicorn's supervisor, which says when all its processes serve."""

    served = False

    def announce(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def init_processes(self) -> None:
        super().init_processes()
        self.served = all(process.wait_until_ready(READY_WITHIN) for process in self.processes)
        if self.served:
            self._ready()
        else:
            self.should_exit.set()


def die_with_parent(parent: int) -> None:
    """Have the kernel stop this process when its parent is gone, however that ended (Linux; elsewhere it lingers)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it went before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def leave_on_sigterm() -> None:
    """Make SIGTERM unwind like ctrl-C does, so that what was opened is closed; uvicorn hands it on at its end."""

    def leave(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def log_to_stderr(level: str) -> None:
    """Plain lines: time, level, what happened, and the facts as key=value; coloured on a terminal."""
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=max(least, logging.WARNING), format="%(asctime)s [%(levelname)s] %(message)s", stream=sys.stderr
    )
