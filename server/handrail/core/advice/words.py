"""Words of messages that nobody reads: variants behind one that always holds, locales that are none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from handrail.core.advice.written import Written
from handrail.core.problems import Problem
from handrail.core.source import Path

_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")


def unread_words(written: Written) -> Iterator[Problem]:
    for message in written.program.messages.values():
        document = f"message:{message.name}"
        always = next((index for index, each in enumerate(message.variants) if each.condition is None), None)
        for index in range(len(message.variants)) if always is not None else ():
            if always is not None and index > always:
                text = f"never chosen: variant {message.variants[always].id} before it has no 'if'"
                yield written.warn(document, text, "variants", index)
        yield from _odd_locales(written, document, message.locales)
        for index, variant in enumerate(message.variants):
            yield from _odd_locales(written, document, variant.locales, "variants", index)


def _odd_locales(written: Written, name: str, locales: Mapping[str, object], *path: str | int) -> Iterator[Problem]:
    if all(map(_LANGUAGE_TAG.fullmatch, locales)):
        return
    document = written.documents[name]
    at: Path = (*path, "locales")
    spelled = document.value if not path else document.value["variants"][path[1]]
    for locale in spelled["locales"]:
        if not _LANGUAGE_TAG.fullmatch(locale):
            text = f"'{locale}' is no language tag such as de or pt-BR"
            yield document.problem(document.key_place((*at, locale)), text, severity="warning")
