"""F53: whatever somebody calls a user, their keys lie in the bucket of the id's hash, and no two users share any."""

from __future__ import annotations

import json
import re
from pathlib import Path

from handrail.core.inputs import BadInput
from handrail.identity import check_user
from handrail.store import Embedded, RedisStore
from handrail.store.embedded import ask
from handrail.store.keys import bucket_of
from handrail.store.pipeline import pack
from servers import Serve

KEY = re.compile(rb"hr:\{(b\d{4}|nodes)\}:(?:u:(.+):[a-z]+|[a-z]+(?::.*)?)", re.DOTALL)
HOSTILE = (
    *(
        "{b0001}",
        "{}",
        "{",
        "}",
        "}{",
        "hr:{b0001}:u:ann",
        "{nodes}:alive",
        "b0001}:timers",
        ":",
        "::",
        "ann:s",
        "ann:o",
    ),
    *("ann:s:s", "*", "?", "[a-z]", "ann*", "\\", "'", '"', "$1", "%00", "%7b", "..", "../ann", "/", "a/revoke"),
    *("ann\r\nSET x y", "ann\n", "ann\x00", "\x1b[31m", "a\u2028", "a\u2029", "\x7f", "\ud800", "a\udfff", "\x85"),
    *("ann", "Ann", "ANN", "ann ", " ann", "a nn", "\u0430nn", "a\u0301", "\u00e1", "ａｎｎ", "ann\u200b", "ann\u202e"),
    *("ﬁ", "fi", "ß", "ss", "İ", "i", "ı", "K", "K", "用户", "👩‍👩‍👧", "0", "-1", "1e3", "null", "undefined", "NaN"),
    *(
        "__proto__",
        "constructor",
        "prototype",
        "toString",
        "<script>",
        "{{7*7}}",
        "${x}",
        "%s%n",
        "=1+1",
        "-",
        "_",
        ".",
    ),
    *("x" * 256, "x" * 257, "é" * 256, "x" * 1_000_000, ""),
)


def keys_of(valkey: Embedded) -> list[bytes]:
    reply = ask(Path(valkey.url.removeprefix("unix://")), pack(("KEYS", "*")))
    parts = re.split(rb"\r\n\$(\d+)\r\n", reply)
    return [value.removesuffix(b"\r\n") for value in parts[2::2]]


def usable(user: str) -> bool:
    try:
        return check_user(user) == user
    except BadInput:
        return False


async def test_no_id_chooses_where_its_keys_lie(serve: Serve, valkey: Embedded, store: RedisStore) -> None:
    client = await serve()
    taken = 0
    for user in HOSTILE:
        body = json.dumps({"userId": user, "messageId": "m", "event": "greeted"}).encode()
        answer = await client.post("/v1/track", content=body)
        assert (answer.status_code == 200) == usable(user), (user[:40], answer.text)
        taken += answer.status_code == 200
    keys, outside, users = keys_of(valkey), [], set()
    for key in keys:
        found = KEY.fullmatch(key)
        assert found, key
        if found[2] is not None:
            user = found[2].decode()
            users.add(user)
            outside += [key] if found[1] != b"b%04d" % bucket_of(user) else []
    states = {user: await store.load(user) for user in users}
    print(json.dumps({"fault": "F53", "ids": len(HOSTILE), "taken": taken, "keys": len(keys), "outside": len(outside)}))
    assert outside == []
    assert users == {user for user in HOSTILE if usable(user)}
    assert all(state is not None and state.user == user for user, state in states.items())
