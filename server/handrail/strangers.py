"""Variables that look like settings and are none: misspelt, most likely, and without effect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from handrail.core.problems import suggest
from handrail.rulebook import read_sources
from handrail.settings import table

_PREFIX = "HANDRAIL_"
_REFERENCE = re.compile(r"\$\{(\w+)\}")


def find_strangers(environ: Mapping[str, str], rules: Iterable[Path]) -> list[str]:
    """A line for each variable that begins as settings do and is read by nobody: neither by Handrail, nor by webhooks
    in these folders of rules."""
    settings = [name for name, _, _ in table()]
    odd = sorted(name for name in environ if name.startswith(_PREFIX) and name not in settings)
    named = {name for folder in rules for name in _references(folder)} if odd else set()
    return [f"{name} is no setting{suggest(name, settings, cutoff=0.75)}" for name in odd if name not in named]


def _references(folder: Path) -> Iterable[str]:
    return (name for text in read_sources(folder).texts.values() for name in _REFERENCE.findall(text))
