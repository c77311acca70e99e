from __future__ import annotations

from handrail.core.problems import Problem, nearest, suggest


def test_a_problem_prints_as_compilers_do() -> None:
    assert str(Problem("rules/a.yaml", 3, 7, "unknown key 'x'")) == "rules/a.yaml:3:7: unknown key 'x'"
    assert str(Problem("a.yaml", 1, 1, "no secret", "warning")) == "a.yaml:1:1: warning: no secret"


def test_problems_sort_by_place() -> None:
    late, early, other = Problem("a", 10, 1, "m"), Problem("a", 9, 30, "m"), Problem("b", 1, 1, "m")
    assert sorted([other, late, early]) == [early, late, other]


def test_the_nearest_name_is_suggested_whatever_its_case() -> None:
    names = ["prompt", "content", "withdraw"]
    assert nearest("promt", names) == "prompt"
    assert nearest("Prompt", names) == "prompt"
    assert nearest("zzz", names) is None
    assert suggest("contnt", names) == "; did you mean 'content'?"
    assert suggest("zzz", names) == ""
    assert suggest("x", []) == ""
