"""The examples of the documentation load, and its tests pass."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from handrail.core import rules, scenarios, testfiles
from handrail.identity import Identity
from handrail.timekeeping import wall_clock

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "rules.md", ROOT / "README.md"]


def blocks(page: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)


# What a page's examples name without defining it.
ELSEWHERE = {
    "rules.md": """
message: compare-plans
kind: modal
---
message: invite-someone
kind: banner
---
message: what-is-new
kind: inline
"""
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_of_a_page_loads_and_its_tests_pass(page: Path) -> None:
    texts = {f"{page.name}#{number}": block for number, block in enumerate(blocks(page))}
    tests = {name: text for name, text in texts.items() if text.startswith("test:")}
    sources = {name: text for name, text in texts.items() if name not in tests}
    run_all({**sources, "elsewhere": ELSEWHERE.get(page.name, "")}, tests, problems=0)


def test_the_starter_rules_load_and_their_tests_pass() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "rules").glob("**/*.yaml"))}
    tests = {name: text for name, text in texts.items() if name.endswith(".test.yaml")}
    run_all({name: text for name, text in texts.items() if name not in tests}, tests, problems=2)


def test_the_tokens_of_the_example_let_in() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "operating.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    secret = "a-secret-that-is-long-enough-for-tests"
    caller = Identity(wall_clock, secret=secret).authenticate(names["make_token"]("ada", secret), None, None)
    assert (caller.user, caller.known) == ("ada", True)


def run_all(sources: dict[str, str], tests: dict[str, str], *, problems: int) -> None:
    """Load and test; `problems` is how many warnings there may be, and no error."""
    environ = {"CRM_URL": "https://crm.example.com/hook", "CRM_SECRET": "a plain secret of some length"}
    loaded = rules.load(sources, environ)
    assert loaded.program is not None, "\n".join(map(str, loaded.problems))
    assert len(loaded.problems) == problems, "\n".join(map(str, loaded.problems))
    found, faults = testfiles.read_tests(tests, loaded.program)
    assert not faults
    assert len(found) >= len(tests) > 0
    for scenario in found:
        assert scenarios.run(loaded.program, scenario).failures == (), scenario.shape.test
