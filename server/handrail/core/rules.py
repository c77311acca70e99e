"""From rule files to a Program: every document read, checked against all others, and compiled.

Faults never stop the check: what can be told of one run over all files is told, each at its file, line and column.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from handrail.core.advice import Written, advise
from handrail.core.compiler import Bench, Compiler, Use
from handrail.core.counters import Counter
from handrail.core.expressions import Expression, Expressions
from handrail.core.flows import Flow
from handrail.core.known import Names, Told, Within
from handrail.core.parts import COMPILE, Parts
from handrail.core.personas import Personas
from handrail.core.problems import Problem
from handrail.core.program import Cancel, Program, Segment, Trigger, index_away, index_dwell, index_falling, index_idle
from handrail.core.rulefiles import Entry, RuleFile, read_file
from handrail.core.segments import PERSONA, conditions_of, in_order, index_reads, watched
from handrail.core.source import Document
from handrail.core.ticking import ticking
from handrail.core.triggers import Hook

_Names = dict[str, dict[str, Within]]  # kind -> name -> names within it


@dataclass(frozen=True, slots=True)
class Loaded:
    """`program` is None when any of the problems is an error. `work` is what it came from, for another loading to go
    on from, and `written` what can be advised on, where there is no fault."""

    program: Program | None
    problems: tuple[Problem, ...]
    work: Work | None = field(default=None, repr=False, compare=False)
    written: Written | None = field(default=None, repr=False, compare=False)

    def advise(self, *, whole: bool = True) -> tuple[Problem, ...]:
        """Warnings that no part gives rise to by itself. Where these files are not the `whole` of the rules, nothing
        is said of parts that only others may use."""
        return tuple(sorted(advise(self.written, whole=whole))) if self.written else ()


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What came of these entries of a file, all but those whose names were taken before; it is good for as long as
    other names tell the same."""

    file: RuleFile
    entries: tuple[Entry, ...]
    parts: Parts
    problems: list[Problem]
    uses: list[Use]
    told: Mapping[str, Told]


@dataclass(slots=True)
class Work:
    """What loading came to on the way, files by path; `made` are how many documents were compiled for it."""

    expressions: Expressions
    variables: Mapping[str, str]  # the environment
    files: dict[str, _Compiled] = field(default_factory=dict)
    made: int = 0

    def give_up(self) -> None:
        """Let go of everything, a file at a time, so that other threads need not wait until all of it is gone."""
        while self.files:
            self.files.popitem()


def load(sources: Mapping[str, str], environ: Mapping[str, str]) -> Loaded:
    """Compile rule files given as path -> text, and advise on them. `environ` resolves `${NAME}` in webhooks."""
    loaded = compile_rules(sources, environ)
    return replace(loaded, problems=tuple(sorted((*loaded.problems, *loaded.advise()))))


def compile_rules(sources: Mapping[str, str], environ: Mapping[str, str], *, before: Work | None = None) -> Loaded:
    """As `load`, without the advice. With the work of an earlier loading only what changed is done, and the outcome is
    the same."""
    files = {path: _read(path, sources[path], before) for path in sorted(sources)}
    problems = [problem for file in files.values() for problem in file.problems]
    kept = _unique(files, problems)
    documents = {(kind, name): document for entries in kept.values() for kind, name, document in entries}
    unread = [each for file in files.values() for each in file.unread]
    work = _compile_all(files, kept, _names(documents, unread), environ, before)
    parts = Parts()
    for compiled in work.files.values():
        problems += compiled.problems
        parts.add(compiled.parts)
    places = {f"{kind}:{name}": document for (kind, name), document in documents.items()}
    segments = _settle_order(parts, places, problems)
    found = tuple(sorted(problems))
    # What a fault hides would make other parts look useless: only rules without any are advised on.
    if any(problem.severity == "error" for problem in problems):
        return Loaded(None, found, work)
    program = _assemble(parts, segments, version_of(sources))
    uses = [use for compiled in work.files.values() for use in compiled.uses]
    return Loaded(program, found, work, Written(program, places, uses))


def _read(path: str, text: str, before: Work | None) -> RuleFile:
    known = before and before.files.get(path)
    return known.file if known and known.file.text == text else read_file(path, text, COMPILE)


def _compile_all(
    files: Mapping[str, RuleFile],
    kept: Mapping[str, tuple[Entry, ...]],
    names: _Names,
    environ: Mapping[str, str],
    before: Work | None,
) -> Work:
    work = Work(before.expressions if before else Expressions(), dict(environ))
    for path, file in files.items():
        known = before.files.get(path) if before and before.variables == environ else None
        good = known and known.file is file and known.entries == kept[path] and _holds(known, names)
        work.files[path] = compiled = known if known and good else _compile(file, kept[path], names, work)
        work.made += 0 if compiled is known else len(compiled.entries)
    return work


def _holds(compiled: _Compiled, names: _Names) -> bool:
    return all(told.holds(names[kind]) for kind, told in compiled.told.items())


def _compile(file: RuleFile, entries: tuple[Entry, ...], names: _Names, work: Work) -> _Compiled:
    known, parts, problems, uses = Names(names), Parts(), list[Problem](), list[Use]()
    bench = Bench(known, work.expressions, file.templates, problems, uses)
    for order, (kind, _, document) in enumerate(entries):
        compiler = Compiler(bench, document)
        COMPILE[kind](compiler, parts, order, work.variables)
    return _Compiled(file, entries, parts, problems, uses, known.told())


def _settle_order(
    parts: Parts, places: Mapping[str, Document], problems: list[Problem]
) -> tuple[Segment | Personas, ...]:
    """Segments and the persona in the order in which they are settled; circles are noted."""
    personas = Personas(parts.personas)
    segments, circle = in_order(parts.segments.values(), personas)
    straight = dict(parts.segments)
    while circle:
        straight = {name: each for name, each in straight.items() if name not in circle}
        document = places[f"segment:{next(name for name in circle if name != PERSONA)}"]
        message = f"segments test each other in a circle: {' -> '.join(circle)}"
        problems.append(document.problem(document.value_place(("if",)), message))
        segments, circle = in_order(straight.values(), personas)
    return segments


def _unique(files: Mapping[str, RuleFile], problems: list[Problem]) -> dict[str, tuple[Entry, ...]]:
    """What is to be compiled, by path; names are unique within a kind, the later one is at fault."""
    first: dict[tuple[str, str], Document] = {}
    kept = {}
    for path, file in files.items():
        repeated = [
            entry for entry in file.entries if first.setdefault(entry[:2], entry.document) is not entry.document
        ]
        kept[path] = tuple(entry for entry in file.entries if entry not in repeated) if repeated else file.entries
        for kind, name, document in repeated:
            other = first[kind, name]
            message = f"there is a {kind} '{name}' already, at {other.path}:{other.value_place((kind,)).line}"
            problems.append(document.problem(document.value_place((kind,)), message))
    return kept


def _names(documents: Mapping[tuple[str, str], Document], unread: Iterable[tuple[str, str]]) -> _Names:
    """All names by kind, of faulty and unread documents too, so that one fault is not reported again wherever its name
    is used; with a flow's name those of its variants."""
    names: _Names = {kind: {} for kind in COMPILE}
    for kind, name in unread:
        names[kind][name] = ()
    for (kind, name), document in documents.items():
        names[kind][name] = _variants(document) if kind == "flow" else ()
    return names


def _variants(document: Document) -> tuple[str, ...]:
    variants = document.value.get("variants")
    ids = [each.get("id") for each in variants if isinstance(each, dict)] if isinstance(variants, list) else []
    return tuple(each for each in ids if isinstance(each, str))


def _assemble(parts: Parts, segments: tuple[Segment | Personas, ...], version: str) -> Program:
    triggers = list(parts.triggers.values())
    hooks: defaultdict[str, list[tuple[Trigger, Hook]]] = defaultdict(list)
    for trigger in triggers:
        for hook in trigger.hooks:
            for key in hook.wakes:
                hooks[key].append((trigger, hook))
    counting: defaultdict[str, list[Counter]] = defaultdict(list)
    for counter in parts.counters.values():
        counting[f"event:{counter.event}"].append(counter)
    cancels: defaultdict[str, list[Cancel]] = defaultdict(list)
    for trigger in triggers:
        for key, cancel in trigger.cancels:
            cancels[key].append(cancel)
    return Program(
        version=version,
        triggers=parts.triggers,
        hooks={key: tuple(pairs) for key, pairs in hooks.items()},
        cancels={key: tuple(each) for key, each in cancels.items()},
        idle=index_idle(triggers),
        dwell=index_dwell(triggers),
        away=index_away(triggers),
        falling=index_falling(triggers),
        segments=segments,
        segments_reading=index_reads(segments, parts.counters),
        counters=parts.counters,
        counters_by_event={key: tuple(each) for key, each in counting.items()},
        ticking=ticking((each for settled in segments for each in conditions_of(settled)), parts.flows.values()),
        watched=watched(_followed(segments, parts.flows), parts.counters),
        attributes=Personas(parts.personas).attributes(),
        messages=parts.messages,
        flows=parts.flows,
        surveys=parts.surveys,
        webhooks=parts.webhooks,
        bodies=parts.bodies,
        policy=parts.policy,
    )


def _followed(segments: tuple[Segment | Personas, ...], flows: dict[str, Flow]) -> Iterator[Expression | None]:
    """The conditions that hold or fail all the time, whatever happens."""
    for segment in segments:
        yield from conditions_of(segment)
    for flow in flows.values():
        yield from (step.condition for step in flow.modules.values())
        yield from (variant.condition for variant in flow.variants)


def version_of(sources: Mapping[str, str]) -> str:
    """A hash of names and contents: equal in every process that has the same files."""
    digest = blake2b(digest_size=8)
    for path in sorted(sources):
        digest.update(f"{path}\0{sources[path]}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()
