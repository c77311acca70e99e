"""What an operator can do about an embedded store that does not start, read off what it said last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

_DAMAGED = re.compile(r"reading the append only file (\S+?)[:.]?(?:\s|$)")
_GRAVE = " # "  # how Valkey marks lines that are warnings or worse
_IDLE = ("WARNING Memory overcommit", "WARNING: The TCP backlog", "WARNING Your kernel")


def advise(said: Sequence[str], data_dir: Path, binary: Path) -> str:
    """Lines that say what is wrong and what mends it; what the server `said` itself where that is all there is."""
    for line in said:
        if found := _DAMAGED.search(line):
            return _mend(data_dir / "appendonlydir" / found[1], data_dir, binary)
    grave = [line for line in said if _GRAVE in line and not any(idle in line for idle in _IDLE)]
    return "\n".join(grave[-4:] or said[-12:])


def _mend(file: Path, data_dir: Path, binary: Path) -> str:
    check = data_dir / binary.name.replace("-server", "-check-aof")
    manifest = quote(str(data_dir / "appendonlydir" / "appendonly.aof.manifest"))
    away = quote(f"{data_dir}.damaged")
    return "\n".join(
        [
            f"{file} is damaged, and was left as it is. Put a backup of {data_dir} in its place, or do without",
            "what the file holds behind the damage:",
            f"    cp -a {quote(str(data_dir))} {away}",
            f"    ln -s {quote(str(binary))} {quote(str(check))}",
            f"    {quote(str(check))} --fix {manifest}",
            "The last one says how much that is and asks; without --fix it only looks. Then start Handrail again.",
        ]
    )
