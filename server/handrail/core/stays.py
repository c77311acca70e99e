"""How long a user has really been on a step: the time a tab was visible and they were not idle.

A stay begins with `step_viewed` and ends when another step is viewed, this one completed or skipped, or viewed again in
another session. Time is counted
at edges (activity, tabs shown and hidden, steps), over all tabs at once, so several visible tabs count once. Between
edges nothing changes, and when a stay reaches a length can be told beforehand.
"""

from __future__ import annotations

from msgspec.structs import replace

from handrail.core.policy import Policy
from handrail.core.state import State, Stay


def count_stay(policy: Policy, state: State, *, until: int) -> None:
    """Count the time on the step up to an edge, under what held before it."""
    stay = state.stay
    if stay is not None and until > stay.until:
        engaged = min(until, state.last_activity + policy.active) - stay.until if is_watched(state) else 0
        state.stay = replace(stay, until=until, spent=stay.spent + max(0, engaged))


def follow_step(policy: Policy, state: State, name: str, step: str, *, at: int) -> None:
    """What `step_viewed`, `step_completed` or `step_skipped` means for the stay; older news than it changes nothing."""
    stay = state.stay
    if not step or (stay is not None and at < stay.since):
        return
    count_stay(policy, state, until=at)
    stay = state.stay
    if name == "step_viewed":
        again = (
            stay is not None and stay.step == step and (state.session is None or stay.since >= state.session.started)
        )
        state.stay = replace(stay, since=at) if stay and again else Stay(step, at, max(at, stay.until if stay else at))
    elif name in ("step_completed", "step_skipped") and stay is not None and stay.step == step:
        state.stay = replace(stay, step="")


def reaches(policy: Policy, state: State, span: int) -> int | None:
    """When the stay comes to this length if nothing else happens, or None if it does not."""
    if state.stay is None or not is_watched(state):
        return None
    due = state.stay.until + max(0, span - state.stay.spent)
    return due if due <= state.last_activity + policy.active else None


def is_watched(state: State) -> bool:
    """Whether any tab is visible."""
    return any(connection.visible for connection in state.connections.values())
