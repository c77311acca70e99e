"""A server that dies of some events: evaluating them ends the process, as a fault in a C library would."""

from __future__ import annotations

import os
import sys
from typing import Any

from handrail import serving
from handrail.core import engine
from handrail.core.events import Alarm, Event
from handrail.core.program import Program
from handrail.core.state import State
from handrail.settings import Settings

DEADLY = "deadly"  # an event of this name, and any alarm of a user of this name
_step = engine.step


def _die_of_some(program: Program, state: State, event: Event, now: int, **more: Any) -> engine.Step:
    if getattr(event, "name", "") == DEADLY or (isinstance(event, Alarm) and state.user == DEADLY):
        os._exit(139)
    return _step(program, state, event, now, **more)


def main() -> None:
    engine.step = _die_of_some
    settings = Settings.from_environ(os.environ)
    if len(sys.argv) > 1:
        parent, line, listening = map(int, sys.argv[1:])
        serving.serve_child(settings, os.environ, parent=parent, line=line, listening=listening)
    else:
        command = (sys.executable, __file__)
        serving.serve(settings, os.environ, child=command, announce=lambda _url: print("serving", flush=True))


if __name__ == "__main__":
    main()
