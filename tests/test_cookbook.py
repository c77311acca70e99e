"""Every recipe of the cookbook stands alone: its rules load without a warning, and its tests pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from handrail.core import rules, scenarios, testfiles

PAGE = Path(__file__).parents[1] / "docs" / "cookbook.md"
RECIPES = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE))


def test_there_are_twenty_and_the_contents_lists_them() -> None:
    listed = re.findall(r"^\d+\. \[(.+?)\]", PAGE.read_text(), re.MULTILINE)
    assert listed == list(RECIPES)
    assert len(listed) == 20


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_works(recipe: str) -> None:
    written, tested = re.findall(r"```yaml\n(.*?)```", recipe, re.DOTALL)
    loaded = rules.load({"recipe.yaml": written}, {})
    assert not loaded.problems, "\n".join(map(str, loaded.problems))
    assert loaded.program is not None
    found, faults = testfiles.read_tests({"recipe.test.yaml": tested}, loaded.program)
    assert not faults, "\n".join(map(str, faults))
    assert found
    for scenario in found:
        assert scenarios.run(loaded.program, scenario).failures == (), scenario.shape.test
