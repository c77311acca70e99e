"""Changes to the server's source as it is imported: shorter limits for every run, and the faults of planted mutants."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

PACKAGE = "handrail."


class Patch(NamedTuple):
    """In `place`, a module or the file name of a script, `old` becomes `new`; it has to stand there exactly once."""

    place: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        if text.count(self.old) != 1:
            raise ValueError(f"{self.place} has this {text.count(self.old)} times instead of once: {self.old!r}")
        return text.replace(self.old, self.new)


# Short limits, so that a short run meets them.
SHORT = (
    Patch("store.keys", "BUCKETS = 1024", "BUCKETS = 8"),  # else reading all timers would be most of the work
    Patch("store.scripts", "OUTBOX_MAX = 1_000", "OUTBOX_MAX = 10"),
    Patch("outbound.webhooks", "LEASE = 60_000", "LEASE = 9_000"),
    Patch("outbound.webhooks", "DEADLINE = 15_000", "DEADLINE = 3_000"),
)


def install(patches: Sequence[Patch]) -> None:
    """Have them take effect at import. Nothing of the server may have been imported yet."""
    assert not any(name.startswith(PACKAGE) for name in sys.modules), "the server was imported already"
    modules: dict[str, list[Patch]] = {}
    scripts: dict[str, list[Patch]] = {}
    for patch in patches:
        where = scripts if patch.place.endswith(".lua") else modules
        where.setdefault(patch.place, []).append(patch)
    sys.meta_path.insert(0, _Finder({PACKAGE + name: each for name, each in modules.items()}))
    _patch_scripts(scripts)


class _Finder(MetaPathFinder):
    def __init__(self, patches: dict[str, list[Patch]]) -> None:
        self._patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in self._patches else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, self._patches[fullname])
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, patches: list[Patch]) -> None:
        super().__init__(fullname, path)
        self._patches = patches

    def get_code(self, fullname: str) -> CodeType:
        text = Path(self.path).read_text("utf-8")
        for patch in self._patches:
            text = patch.applied(text)
        return compile(text, self.path, "exec", dont_inherit=True)


def _patch_scripts(patches: dict[str, list[Patch]]) -> None:
    """The server reads its scripts as text when they are imported."""
    read = Path.read_text

    def read_text(path: Path, *arguments: str, **more: str) -> str:
        text = read(path, *arguments, **more)
        for patch in patches.get(path.name, ()):
            text = patch.applied(text)
        return text

    Path.read_text = read_text  # type: ignore[method-assign,assignment]
