"""The layers: imports point one way, the core is pure, Redis stays inside the store, the environment at the rim."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "server" / "handrail"
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem != "__init__")
# A part imports only parts of lower rank, and itself.
RANK = {
    "core": 0,
    "counts": 0,
    "edge": 1,
    "store": 1,
    "settings": 1,
    "supervise": 1,
    "signals": 1,
    "surroundings": 1,
    "tokens": 1,
    "limits": 2,
    "identity": 2,
    "rulebook": 2,
}
RANK |= {
    "counts": 0,
    "histogram": 0,
    "lag": 1,
    "eventlog": 1,
    "logs": 1,
    "suspects": 1,
    "guard": 2,
    "quarantine": 2,
}
RANK |= {"turns": 3, "queues": 4, "tally": 4, "runner": 5}
RANK |= {"figures": 1, "line": 2, "processes": 3}
RANK |= {"asking": 2, "ticker": 2, "timekeeping": 2, "tickets": 4, "profiles": 6}
RANK |= {"web": 7, "live": 7, "outbound": 7, "app": 8, "recordings": 8}
RANK |= {"strangers": 6, "serving": 9, "replaying": 9, "cli": 10, "__main__": 11}
IMPURE = {
    "asyncio",
    "time",
    "random",
    "secrets",
    "uuid",
    "logging",
    "structlog",
    "os",
    "socket",
    "pathlib",
    "threading",
}
IMPURE |= {"redis", "hiredis", "starlette", "uvicorn", "aiohttp", "watchfiles"}


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    own = part(path)
    for name in imported(path):
        head, _, rest = name.partition(".")
        if head == "handrail":
            other = rest.partition(".")[0]
            assert other == own or RANK[other] < RANK[own], f"{own} imports {name}"
        assert head not in {"redis", "hiredis"} or own == "store", f"{own} imports {name}"
        assert head not in IMPURE or own != "core", f"core imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_core_does_not_wait_and_the_environment_is_read_at_the_rim(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if part(path) == "core":
            assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith), "core waits"
        if part(path) not in {"settings", "cli", "__main__"} and isinstance(node, ast.Attribute):
            assert node.attr not in {"environ", "getenv"}, f"{part(path)} reads the environment"
