"""Words by locale: `de-at`, else `de`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Words = TypeVar("Words")


def fold(locale: str) -> str:
    return locale.lower().replace("_", "-")


def in_locale(locales: Mapping[str, Words], locale: str) -> Words | None:
    """What stands for `de-at`, else for `de`, by folded locales."""
    wanted = fold(locale)
    return locales.get(wanted) or locales.get(wanted.split("-")[0])
