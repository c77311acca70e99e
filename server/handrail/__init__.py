"""Handrail: a real-time push server for adaptive onboarding.

The pure core as a library: compile rule files, and decide what an event means for a user. A whole server in a line is
`handrail.app.build`; what happens to users is in `handrail.core.events`.
"""

from handrail.core.engine import Step, alarm, fresh, snapshot, step
from handrail.core.problems import Problem
from handrail.core.program import Program
from handrail.core.rules import Loaded, load
from handrail.core.state import State

__all__ = ["Loaded", "Problem", "Program", "State", "Step", "alarm", "fresh", "load", "snapshot", "step"]
