"""Loading with the work of an earlier loading at hand: less is done, and the same comes of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handrail.core.rules import Loaded, compile_rules, load

DOCUMENTS = (
    "trigger: a\nwhen: {event: x}\nif: user.counters.tried > 2\nthen: [{prompt: hello}]\n",
    "trigger: a\nwhen: {idle: 40m}\nthen: [{prompt: bye}]\n",
    "trigger: b\nwhen: {enters: keen}\nif: \"'keen' in user.segments && user.traits.n > 1\"\nthen: [{flow: short}]\n",
    "trigger: c\nwhen: {event: x, where: event.properties.n > }\nthen: [{webhook: crm}]\npriority: high\n",
    "trigger: d\nwhen: {leaves: keem}\nthen: [{flow: tour/short}, {withdraw: hello}]\n",
    'message: hello\nkind: modal\ntitle: "Hi {{ user.traits.name }}"\nactions: [{label: Go, do: {flow: tour}}]\n',
    'message: bye\nkind: modal\ntitle: "Bye {{ usr }}"\n',
    "message: Hello\nkind: modal\n",
    "segment: keen\nif: user.counters.tried > 3\n",
    "segment: keen\nif: \"'other' in user.segments\"\n",
    "segment: other\nif: \"'keen' in user.segments\"\n",
    "counter: tried\nof: x\nwithin: 2h\n",
    "flow: tour\nsteps: [{id: one}, {id: two, if: user.counters.tried > 1}]\nvariants: [{id: short, steps: [one]}]\n",
    'flow: second\nsteps: [{id: one, if: "user.counters.size() > 1"}]\nvariants: [{id: short, steps: [one]}]\n',
    'webhook: crm\nurl: ${CRM}\nsecret: ${KEY}\nbody: {id: "{{ user.id }}"}\n',
    "policy: default\nsession: {idle: 1h}\n",
    "trigger: a\nwhen: {event: x}\nmessage: run-in\nkind: modal\nthen: []\n",
    "nonsense: 1\n",
    "a: [\n",
)
_texts = st.lists(st.sampled_from(DOCUMENTS), max_size=4).map("---\n".join)
_folders = st.dictionaries(st.sampled_from(["a.yaml", "b.yaml", "c.yaml", "z/d.yaml"]), _texts)
_environs = st.sampled_from([{}, {"CRM": "https://crm.example/x", "KEY": "k" * 32}])


def told(loaded: Loaded) -> tuple[Any, ...]:
    """All there is to a program, with the texts of its expressions and templates, and the problems."""
    return repr(loaded.program), loaded.problems


@settings(max_examples=150)
@given(st.lists(st.tuples(_folders, _environs), min_size=2, max_size=4))
def test_loading_again_comes_to_what_loading_afresh_does(versions: list[tuple[dict[str, str], dict[str, str]]]) -> None:
    work = None
    for sources, environ in versions:
        again, afresh = compile_rules(sources, environ, before=work), compile_rules(sources, environ)
        assert told(again) == told(afresh)
        assert again.advise() == afresh.advise()
        work = again.work


GOOD = {
    "messages.yaml": f"{DOCUMENTS[5]}---\n{DOCUMENTS[12]}",
    "one.yaml": DOCUMENTS[0],
    "two.yaml": f"{DOCUMENTS[11]}---\ntrigger: two\nwhen: {{event: y}}\nthen: [{{prompt: hello}}]\n",
}


@pytest.mark.parametrize(
    ("path", "text", "made_anew"),
    [
        ("three.yaml", "trigger: three\nwhen: {event: z}\nthen: [{prompt: hello}]\n", {"three"}),
        ("three.yaml", "message: three\nkind: modal\n", set()),
        ("one.yaml", DOCUMENTS[0].replace("> 2", "> 3"), {"a"}),
        ("messages.yaml", GOOD["messages.yaml"].replace("Hi", "Hello"), set()),
        ("two.yaml", GOOD["two.yaml"].replace("tried", "tries"), {"a", "two"}),
    ],
    ids=["a trigger", "a new name", "a condition", "a text", "a name that another file asks for"],
)
def test_only_what_changed_is_compiled(path: str, text: str, made_anew: set[str]) -> None:
    before = load(GOOD, {})
    assert before.program is not None
    after = compile_rules({**GOOD, path: text}, {}, before=before.work)
    assert after.work is not None
    triggers = {name: each for file in after.work.files.values() for name, each in file.parts.triggers.items()}
    assert {name for name, each in triggers.items() if before.program.triggers.get(name) is not each} == made_anew
