"""The command line. Exit codes: 0 fine, 1 what was checked is wrong, 2 the call is wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

import msgspec
import typer

from handrail.core.explain import Explanation
from handrail.core.feed import tell
from handrail.core.problems import Problem
from handrail.core.program import Program
from handrail.core.report import report
from handrail.core.scenarios import Result, run
from handrail.core.schema import rule_schema
from handrail.core.testfiles import Scenario
from handrail.core.testfiles import read_tests as scenarios_of
from handrail.rulebook import is_test, load_sources, read_sources, read_tests
from handrail.settings import OperatorError, Role, Settings, SettingsError, table
from handrail.ticker import Ticker

Format = Literal["text", "json", "github"]

cli = typer.Typer(
    name="handrail",
    help="A real-time push server for adaptive onboarding.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _settings_help() -> str:
    rows = table()
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{name:<{width}}  {text}{f' [{default}]' if default else ''}" for name, default, text in rows]
    return "\n".join(["\b", "Settings, from the environment (flags go before them):", *lines])


@cli.command(epilog=_settings_help())
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="How many processes serve.")] = None,
    rules: Annotated[Path | None, typer.Option(help="Folder of rule files.")] = None,
    redis: Annotated[str | None, typer.Option(help="URL of the store; without one Valkey is embedded.")] = None,
    role: Annotated[Role | None, typer.Option(help="What this server does.")] = None,
) -> None:
    """Serve connections, HTTP, timers and webhooks."""
    with _operator_errors():
        flags = {"host": host, "port": port, "workers": workers, "rules": rules, "redis_url": redis, "role": role}
        settings = Settings.from_environ(os.environ, **flags)
        if refusals := settings.refusals():
            raise SettingsError(refusals)
        if not settings.rules.is_dir():
            raise OperatorError(f"there is no rules folder '{settings.rules}': make it, or name another with --rules")
        # Imported here only: checking rules needs no server, and starts three times as fast without.
        from handrail import serving

        serving.serve(
            settings,
            os.environ,
            child=(sys.executable, "-P", "-m", "handrail", "child"),
            announce=lambda where: typer.echo(_greeting(settings, where)),
        )


@cli.command(hidden=True)
def child(parent: int, line: int, listening: int) -> None:
    """Serve as one of several processes. `serve` starts them so, with its own id and two of its open files."""
    with _operator_errors():
        from handrail import serving

        serving.serve_child(
            Settings.from_environ(os.environ), os.environ, parent=parent, line=line, listening=listening
        )


@cli.command(short_help="Check rule files: every problem, with its place.")
def check(
    rules: Annotated[Path, typer.Argument(help="A folder of rule files, or one file.", exists=True)],
    format_: Annotated[Format, typer.Option("--format", help="How to print what was found.")] = "text",
) -> None:
    """Check rule files and print every problem at once, as file:line:col: message."""
    sources = read_sources(rules.parent if is_test(rules) else rules)
    loaded = load_sources(sources, os.environ)
    scenarios, faults = _tests(rules, loaded.program)
    problems = tuple(sorted((*loaded.problems, *faults)))
    _print_problems(problems, format_)
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)
    if format_ == "text" and loaded.program is not None:
        if not sources.texts:
            typer.echo(f"no rule files (*.yaml) in {rules}")
            return
        triggers, tests = _count(len(loaded.program.triggers), "trigger"), _count(len(scenarios), "test")
        typer.echo(f"{_count(len(sources.texts), 'file')}, {triggers}, {tests}: fine")


@cli.command("test")
def run_tests(
    rules: Annotated[Path, typer.Argument(help="A folder of rule files with tests, or one *.test.yaml.", exists=True)],
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what each trigger did, and when.")] = False,
) -> None:
    """Run every *.test.yaml on a virtual clock."""
    loaded = load_sources(read_sources(rules if rules.is_dir() else rules.parent), os.environ)
    scenarios, faults = _tests(rules, loaded.program)
    _print_problems((*loaded.problems, *faults), "text")
    if loaded.program is None or any(fault.severity == "error" for fault in faults):
        raise typer.Exit(1)
    results = [run(loaded.program, scenario) for scenario in scenarios]
    for result in results:
        _print_result(result, verbose=verbose)
    failed = sum(not result.passed for result in results)
    typer.echo(f"{_count(len(results), 'test')}, {failed} failed" if results else "no tests found")
    if failed:
        raise typer.Exit(1)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of rule files, for editors."""
    typer.echo(json.dumps(rule_schema(), indent=2, ensure_ascii=False))


@cli.command(short_help="Say why a trigger did or did not fire for a user.")
def explain(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    trigger: Annotated[str, typer.Argument(help="The trigger's name.")],
    url: Annotated[str, typer.Option(help="Where the server is.")] = "http://127.0.0.1:8000",
    format_: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print it.")] = "text",
) -> None:
    """Say why a trigger did or did not fire for a user, condition by condition, and when it next could.

    Asks a running server, with HANDRAIL_ADMIN_KEY where it wants one; changes nothing.
    """
    with _operator_errors():
        # Imported here only: an HTTP client is no part of checking rules.
        from handrail import asking

        told = asking.ask(url, f"/api/users/{quote(user, safe='')}/explain/{quote(trigger, safe='')}", _admin_key())
    if format_ == "json":
        typer.echo(msgspec.json.format(told, indent=2).decode())
        return
    for line in report(msgspec.json.decode(told, type=Explanation)):
        typer.echo(line)


@cli.command(short_help="Show events and what was decided on them.")
def tail(
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    since: Annotated[str, typer.Option(help="How far back to begin, as 30m or 7d.")] = "0s",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on with what comes.")] = True,
    url: Annotated[str, typer.Option(help="Where the server is.")] = "http://127.0.0.1:8000",
    format_: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print it.")] = "text",
) -> None:
    """Show events, and what was decided on them, as they come.

    Asks a running server, with HANDRAIL_ADMIN_KEY where it wants one. As JSON it is an archive that replay reads.
    """
    asked = {"since": since, "follow": str(follow).lower()} | ({"user": user} if user else {})
    with _operator_errors(), suppress(KeyboardInterrupt):
        # Imported here only: an HTTP client is no part of checking rules.
        from handrail import asking

        for line in asking.read_lines(url, f"/api/tail?{urlencode(asked)}", _admin_key()):
            if line.strip():
                _print_line(line, format_)


@cli.command(short_help="Put recorded events through a rule set.")
def replay(
    rules: Annotated[Path, typer.Argument(help="A folder of rule files, or one file.", exists=True)],
    archive: Annotated[Path, typer.Argument(help="A file or folder of JSON Lines, gzip or not; - is standard input.")],
    against: Annotated[Path | None, typer.Option(help="Other rules to compare with.", exists=True)] = None,
    format_: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print it.")] = "text",
    absent: Annotated[
        bool, typer.Option("--absent", help="Take nobody to look at a page, not even in a session.")
    ] = False,
    processes: Annotated[int | None, typer.Option(help="How many processes; a core each unless given.", min=1)] = None,
) -> None:
    """Put recorded events through a rule set in virtual time, and say what it would have done.

    Reads Segment calls, and lines of Handrail's own event log. Sends nothing to anybody.
    """
    with _operator_errors():
        if str(archive) != "-" and not archive.exists():
            raise OperatorError(
                f"there is no archive '{archive}': name a file or folder of JSON Lines, or - for standard input"
            )
    texts, others = _texts(rules), None if against is None else _texts(against)
    # Imported here only: processes and archives are no part of checking rules.
    from handrail import replaying

    ticker = Ticker(sys.stderr)
    told = replaying.replay_archive(
        archive, texts, against=others, present=not absent, processes=processes, progress=ticker.tell
    )
    ticker.clear()
    if format_ == "json":
        typer.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        for line in told.lines():
            typer.echo(line)
    if not told.archive.events:
        raise typer.Exit(1)


def _texts(rules: Path) -> dict[str, str]:
    """Rules that have no fault; otherwise the faults are printed and that is the end."""
    sources = read_sources(rules)
    loaded = load_sources(sources, os.environ)
    if loaded.program is None:
        for problem in loaded.problems:
            typer.echo(str(problem), err=True)
        raise typer.Exit(1)
    return sources.texts


def _admin_key() -> str:
    return os.environ.get("HANDRAIL_ADMIN_KEY", "").strip()


def _tests(rules: Path, program: Program | None) -> tuple[list[Scenario], tuple[Problem, ...]]:
    """The tests beside the rules; without a program their names cannot be checked, the rest can."""
    sources = read_tests(rules)
    scenarios, problems = scenarios_of(sources.texts, program)
    return scenarios, (*sources.unreadable, *problems)


def _print_result(result: Result, *, verbose: bool) -> None:
    scenario = result.scenario
    typer.echo(f"{'ok' if result.passed else 'FAILED'}  {scenario.path}:{scenario.line}  {scenario.shape.test}")
    for line in result.log if verbose or not result.passed else ():
        typer.echo(f"      {line}")
    for failure in result.failures:
        typer.echo(f"    {failure.path}:{failure.line}: at {failure.at} (- expected, + decided)")
        for line in failure.difference:
            typer.echo(f"      {line}")


def _print_line(line: bytes, form: Literal["text", "json"]) -> None:
    """A line of the event log; whoever reads at the other end of a pipe has it at once."""
    told = [line.decode().rstrip("\n")] if form == "json" else tell(msgspec.json.decode(line))
    typer.echo("\n".join(told))


def _print_problems(problems: tuple[Problem, ...], form: Format) -> None:
    if form == "json":
        typer.echo(msgspec.json.format(msgspec.json.encode(problems), indent=2).decode())
        return
    for problem in problems:
        typer.echo(_annotation(problem) if form == "github" else str(problem))


def _annotation(problem: Problem) -> str:
    """The problem as a GitHub Actions workflow command."""
    text = problem.message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    path = problem.path.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{problem.severity} file={path},line={problem.line},col={problem.column}::{text}"


def _greeting(settings: Settings, where: str) -> str:
    if settings.role == "worker":
        return f"Handrail's worker runs; its health is at {where}/readyz"
    page = f" Open {where}/demo in a browser." if settings.with_demo else ""
    return f"Handrail serves on {where}.{page} Stop with ctrl-C."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@contextmanager
def _operator_errors() -> Iterator[None]:
    try:
        yield
    except OperatorError as fault:
        for line in str(fault).splitlines():
            typer.echo(f"handrail: {line}", err=True)
        raise typer.Exit(2) from None


def main() -> None:
    sys.exit(cli())
