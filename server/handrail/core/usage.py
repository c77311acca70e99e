"""What an expression reads, taken from its syntax tree."""

from __future__ import annotations

from collections.abc import Iterator

from handrail.core.syntax import Node

# Variables with entries of any name.
MAPS = frozenset(
    {
        *("answers", "event.context", "event.properties", "user.attributes", "user.consents", "user.counters"),
        *("user.steps", "user.traits"),
    }
)
Use = tuple[str, str | None, int | None]  # (variable, constant key or None, offset)


def uses_of(node: Node, names: frozenset[str]) -> Iterator[Use]:
    """(variable, constant key or None, offset) of every place where one of these variables is read.

    For a list the key is the text that `in` looks for.
    """
    variable, key, rest = _use(node, names)
    if variable is not None:
        yield variable.name, key, None if variable.at is None else variable.at - max(variable.name.rfind("."), 0)
    for part in rest:
        yield from uses_of(part, names)


def _use(node: Node, names: frozenset[str]) -> tuple[Node | None, str | None, tuple[Node, ...]]:
    """The variable that a node reads by itself, with its key, and the nodes still to look at."""
    match node:
        case Node(kind="name", name=name) if name in names:
            return node, None, ()
        case Node(kind="select", name=field, parts=(Node(kind="name", name=name) as variable,)) if name in MAPS & names:
            return variable, field, ()
        case Node(kind="call", name="_[_]", parts=(Node(kind="name", name=name) as variable, Node(value=str(key)))):
            return (variable, key, ()) if name in MAPS & names else (None, None, node.parts)
        case Node(kind="call", name="@in", parts=(Node(value=str(key)), Node(kind="name", name=name) as variable)):
            return (variable, key, ()) if name in names else (None, None, node.parts)
    return None, None, node.parts


def compared_personas(tree: Node) -> frozenset[str]:
    """The texts that the persona is compared with."""
    return frozenset(_compared(tree))


def _compared(tree: Node) -> Iterator[str]:
    for node in tree.walk():
        if node.name in ("_==_", "_!=_", "@in") and any(part.name == "user.persona" for part in node.parts):
            for part in node.parts:
                constants = part.parts if part.kind == "list" else (part,)
                yield from (str(each.value) for each in constants if isinstance(each.value, str))


def keys_used(name: str, uses: list[Use]) -> frozenset[str] | None:
    """The constant keys at which a map is read; None where one is computed."""
    keys = [key for variable, key, _ in uses if variable == name]
    return None if None in keys else frozenset([key for key in keys if key is not None])
