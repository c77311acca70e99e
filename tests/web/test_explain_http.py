"""Explanations over HTTP: of the state as it is stored, for whoever has the admin key."""

from __future__ import annotations

import pytest

from handrail.core.expressions import Expression
from handrail.core.scope import Scope
from handrail.guard import FAILURES
from servers import Serve

PATH = "/api/users/{}/explain/{}"
RULES = """\
trigger: greet
when: {event: greeted}
if: user.traits.plan == 'trial'
then: [{set: {greeted: true}}]
limit: once
"""


async def test_it_tells_what_the_store_knows_and_changes_nothing(serve: Serve) -> None:
    (serve.folder / "greet.yaml").write_text(RULES)
    client = await serve()
    path = PATH.format("ann%2Fdept", "greet")
    for message in ({"event": "greeted"}, {"event": "other"}):
        assert (await client.post("/v1/track", json={"userId": "ann/dept", **message})).status_code == 200
    first, again = [(await client.get(path)).json() for _ in range(2)]
    assert (first["user"], first["verdict"], first["fired"]) == ("ann/dept", "not-met", [])
    assert again | {"at": 0, "free_at": 0} == first | {"at": 0, "free_at": 0}
    await client.post("/v1/identify", json={"userId": "ann/dept", "traits": {"plan": "trial"}})
    assert (await client.get(path)).json()["verdict"] == "fires"
    await client.post("/v1/track", json={"userId": "ann/dept", "event": "greeted"})
    told = (await client.get(path)).json()
    assert (told["verdict"], told["reason"], len(told["fired"])) == ("suppressed", "limit", 1)


async def test_an_unknown_user_or_trigger_is_a_clear_404(serve: Serve) -> None:
    client = await serve()
    nobody = await client.get(PATH.format("nobody", "greet"))
    assert nobody.status_code == 404
    assert nobody.headers["content-type"] == "application/problem+json"
    assert "'nobody'" in nobody.json()["detail"]
    await client.post("/v1/track", json={"userId": "ann", "event": "greeted"})
    unknown = await client.get(PATH.format("ann", "great"))
    assert unknown.status_code == 404
    assert unknown.json()["detail"] == "No trigger is named 'great'; did you mean 'greet'?"


@pytest.mark.parametrize(("sent", "status"), [("", 401), ("Bearer wrong", 401), ("Basic secret", 401)])
async def test_the_admin_key_is_asked_for_where_there_is_one(serve: Serve, sent: str, status: int) -> None:
    client = await serve(admin_key="secret")
    answer = await client.get(PATH.format("ann", "greet"), headers={"Authorization": sent})
    assert answer.status_code == status
    assert answer.headers["www-authenticate"].startswith("Bearer")
    with_key = await client.get(PATH.format("ann", "greet"), headers={"Authorization": "Bearer secret"})
    assert with_key.status_code == 404


async def test_for_a_visitor_who_became_a_user_it_tells_of_the_user(serve: Serve) -> None:
    client = await serve()
    await client.post("/v1/track", json={"anonymousId": "anon-1", "event": "greeted"})
    assert (await client.get(PATH.format("anon-1", "greet"))).json()["user"] == "anon-1"
    await client.post("/v1/alias", json={"userId": "ann", "previousId": "anon-1"})
    told = (await client.get(PATH.format("anon-1", "greet"))).json()
    assert (told["user"], len(told["fired"])) == ("ann", 1)


async def test_a_condition_that_raises_is_told_as_one_that_fails(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    (serve.folder / "greet.yaml").write_text(RULES)
    client = await serve()
    await client.post("/v1/track", json={"userId": "ann", "event": "other"})
    holds = Expression.holds

    def fail(expression: Expression, scope: Scope) -> tuple[bool, str]:
        if "plan" in expression.source:
            raise ZeroDivisionError("a fault of ours")
        return holds(expression, scope)

    monkeypatch.setattr(Expression, "holds", fail)
    for _ in range(FAILURES + 1):  # looking does not count
        answer = await client.get(PATH.format("ann", "greet"))
        told = answer.json()
        assert (answer.status_code, told["verdict"], told["condition"]["value"]) == (200, "off", False)
        assert told["condition"]["error"].startswith("this condition fails: ZeroDivisionError at ")
        assert told["condition"]["error"].endswith(": a fault of ours")
    assert (await client.get("/api/quarantine")).json()["switched_off"] == []
    for _ in range(FAILURES):
        await client.post("/v1/track", json={"userId": "ann", "event": "greeted"})
    monkeypatch.undo()
    told = (await client.get(PATH.format("ann", "greet"))).json()
    assert (told["verdict"], told["condition"]["value"]) == ("off", False)
    assert "switched off until the rules change" in told["detail"]


async def test_another_trigger_that_raises_is_left_out_of_what_is_to_come(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    (serve.folder / "greet.yaml").write_text(
        RULES + "---\ntrigger: later\nwhen: {away: 1h}\nthen: [{set: {gone: true}}]"
    )
    client = await serve()
    await client.post("/v1/track", json={"userId": "ann", "event": "other"})

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("handrail.core.actions.set.SetTraits.run", fail)
    assert (await client.get(PATH.format("ann", "greet"))).json()["verdict"] == "not-met"
    told = (await client.get(PATH.format("ann", "later"))).json()
    assert (told["verdict"], told["condition"]) == ("off", None)
    assert told["detail"].startswith("judging it fails: ZeroDivisionError at ")
