"""What goes into Redis as bytes, and back: commits as keys and arguments of commit.lua, states, jobs, bells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from handrail.core.state import State, dump_state, load_state
from handrail.store.heads import LENGTH, Head, mark_of, read_head, write_base, write_head
from handrail.store.keys import BUCKET_KEYS, user_keys
from handrail.store.protocol import Bell, Commit, CorruptState, Job

_pack = msgspec.msgpack.Encoder().encode
_bell = msgspec.msgpack.Decoder(Bell)
_job = msgspec.msgpack.Decoder(Job)


def pack_commit(commit: Commit) -> tuple[tuple[bytes, ...], list[Any]]:
    """Keys and arguments of commit.lua."""
    state, user = commit.state, commit.state.user
    assert state.version > commit.expected, "a commit makes a newer version"
    keys = user_keys(user)
    bucket = BUCKET_KEYS[keys.bucket]
    base = write_base(commit.expected, commit.base)
    blob = write_head(Head(state.version, state.offset, commit.op, mark_of(state.epoch))) + dump_state(state)
    alarm = b"" if commit.alarm is None else b"%d" % commit.alarm
    bell = _pack(Bell(user, state.offset, commit.node, state.epoch)) if commit.frames else b""
    arguments: list[Any] = [base, blob, alarm, commit.now, user, bucket.bell, bell]
    arguments += (len(commit.frames), len(commit.seen), len(commit.jobs), len(commit.log))
    for frame in commit.frames:
        arguments += frame
    for event, at in commit.seen:
        arguments += (at, event)
    for job in commit.jobs:
        arguments += (job.due, job.id, pack_job(job))
    arguments += commit.log
    places = (keys.state, keys.outbox, keys.seen, bucket.timers, bucket.hooks, bucket.hookdata, bucket.log)
    return places, arguments


def read_state(user: str, blob: bytes, seen: Iterable[tuple[bytes, float]]) -> State:
    """The user's state as it lies in the store. Raises CorruptState."""
    key = user_keys(user).state
    try:
        head = read_head(blob)
        state = load_state(blob[LENGTH:], {event.decode(): int(at) for event, at in seen})
    except (ValueError, TypeError, ArithmeticError, RecursionError, msgspec.MsgspecError) as error:
        raise CorruptState(f"{key!r} does not hold the state of a user ({error})") from error
    if state.user != user:
        raise CorruptState(f"{key!r} holds the state of another user")
    if (head.version, head.offset) != (state.version, state.offset):  # every commit would be refused, for ever
        raise CorruptState(f"{key!r} begins with another version than its state has")
    state.op = head.op
    return state


def read_position(user: str, head: bytes) -> tuple[str, int]:
    """The mark of the epoch and the newest offset that a state's head tells. Raises CorruptState."""
    try:
        found = read_head(head)
    except ValueError as error:
        raise CorruptState(f"{user_keys(user).state!r} does not hold the state of a user ({error})") from error
    return found.mark, found.offset


def pack_job(job: Job) -> bytes:
    """A job with its attempt in front, where retry.lua can read it."""
    return b"%04d" % min(job.attempt, 9_999) + _pack(job)


def read_job(payload: bytes) -> Job:
    """Raises ValueError or msgspec.MsgspecError."""
    return _job.decode(payload[4:])


def read_bell(payload: bytes) -> Bell:
    """Raises ValueError or msgspec.MsgspecError."""
    return _bell.decode(payload)
