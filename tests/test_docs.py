"""The examples of the documentation load, and its tests pass."""

from __future__ import annotations

import re
from pathlib import Path

from handrail.core import rules, scenarios

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "rules.md", ROOT / "README.md"]


def blocks(page: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)


# What the reference's examples name without defining it.
ELSEWHERE = """
message: compare-plans
kind: modal
---
message: invite-someone
kind: banner
---
message: what-is-new
kind: inline
"""


def test_every_example_of_the_reference_loads_and_its_tests_pass() -> None:
    sources = {f"docs/rules.md#{number}": block for number, block in enumerate(blocks(PAGES[0]))}
    tests = {name: text for name, text in sources.items() if text.startswith("test:")}
    loaded = rules.load(
        {**{name: text for name, text in sources.items() if name not in tests}, "elsewhere": ELSEWHERE},
        {"CRM_URL": "https://crm.example.com/hook", "CRM_SECRET": "a plain secret of some length"},
    )
    assert loaded.problems == ()
    assert loaded.program is not None
    found, problems = scenarios.read_tests(tests, loaded.program)
    assert not problems
    assert found
    for scenario in found:
        assert scenarios.run(loaded.program, scenario).failures == ()


def test_every_example_of_the_readme_loads() -> None:
    examples = blocks(PAGES[1])
    assert examples
    loaded = rules.load({f"README.md#{number}": block for number, block in enumerate(examples)}, {})
    assert [str(problem) for problem in loaded.problems if problem.severity == "error"] == []


def test_the_starter_rules_load_and_their_tests_pass() -> None:
    files = sorted((ROOT / "rules").glob("**/*.yaml"))
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in files}
    tests = {name: text for name, text in texts.items() if name.endswith(".test.yaml")}
    loaded = rules.load({name: text for name, text in texts.items() if name not in tests}, {})
    assert loaded.program is not None, "\n".join(map(str, loaded.problems))
    found, problems = scenarios.read_tests(tests, loaded.program)
    assert not problems
    assert len(found) >= len(tests)
    for scenario in found:
        assert scenarios.run(loaded.program, scenario).failures == (), scenario.shape.test
