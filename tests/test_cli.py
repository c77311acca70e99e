"""The command line, as real processes: what it prints, how it exits, how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from masters import Master

RULES = """\
trigger: greet
when: {event: greeted}
then: [{prompt: hello}]
---
message: hello
kind: toast
title: Hello
"""
TEST = """\
test: a greeting is answered
timeline:
  - {at: 1s, event: greeted}
  - {at: 1s, expect: [{prompt: hello}]}
"""
STOPS_WITHIN = 6.0
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "greet.yaml").write_text(RULES)
    return tmp_path


def handrail(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handrail", *arguments],
        cwd=folder,
        env=clean() | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HANDRAIL_")}


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def serve(*arguments: str, stderr: int | None = None, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "handrail", "serve", "--port", "0", *arguments],
            cwd=folder,
            env=clean() | environ,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield serve
    for process in started:
        process.terminate()
        try:
            process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def where(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line
    return found.group()


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
        return json.load(answer)


def children(pid: int) -> list[int]:
    """Whichever of its threads started them."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for found in lists for each in found.read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return met


# --- check and test -------------------------------------------------------------------------------------------------


def test_check_says_that_good_rules_are_fine(folder: Path) -> None:
    (folder / "rules" / "greet.test.yaml").write_text(TEST)
    done = handrail(folder, "check", "rules")
    assert (done.returncode, done.stdout) == (0, "1 file, 1 trigger, 1 test: fine\n")


def test_check_prints_every_problem_with_its_place(folder: Path) -> None:
    (folder / "rules" / "bad.yaml").write_text("trigger: a\nwhen: {evnt: x}\nthen: [{prompt: helo}]\n---\nmesage: b\n")
    done = handrail(folder, "check", "rules")
    assert done.returncode == 1
    places = [re.match(r"rules/bad\.yaml:(\d+):\d+: .", line) for line in done.stdout.splitlines()]
    assert [int(place.group(1)) for place in places if place] == [2, 3, 5]


def test_check_reads_the_tests_of_faulty_rules_too(folder: Path) -> None:
    (folder / "rules" / "bad.yaml").write_text("mesage: b\n")
    (folder / "rules" / "bad.test.yaml").write_text("test: t\ntimeline:\n  - {at: soon, expect: [{prompt: helo}]}\n")
    done = handrail(folder, "check", "rules")
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [
        "rules/bad.test.yaml:3:10",
        "rules/bad.yaml:1:1",
    ]


def test_check_of_one_file_does_not_speak_of_parts_that_others_may_use(folder: Path) -> None:
    (folder / "rules" / "later.yaml").write_text("message: later\nkind: toast\nlocales: {german: {title: x}}\n")
    whole, one = (handrail(folder, "check", path).stdout for path in ("rules", "rules/later.yaml"))
    assert "rules/later.yaml:1:10: warning: nothing shows this message" in whole
    assert one.startswith("rules/later.yaml:3:11: warning: 'german' is no language tag")
    assert "nothing shows" not in one


def test_check_of_an_empty_folder_says_so(folder: Path) -> None:
    (folder / "none").mkdir()
    done = handrail(folder, "check", "none")
    assert (done.returncode, done.stdout) == (0, "no rule files (*.yaml) in none\n")


def test_check_for_programs_and_for_github(folder: Path) -> None:
    (folder / "rules" / "bad.yaml").write_text("mesage: b\n")
    done = handrail(folder, "check", "rules", "--format", "json")
    (problem,) = json.loads(done.stdout)
    assert (done.returncode, problem["path"], problem["line"], problem["column"]) == (1, "rules/bad.yaml", 1, 1)
    done = handrail(folder, "check", "rules", "--format", "github")
    assert done.stdout.startswith("::error file=rules/bad.yaml,line=1,col=1::")


def test_schema_prints_the_schema_that_editors_use(folder: Path) -> None:
    done = handrail(folder, "schema")
    assert done.returncode == 0
    committed = Path(__file__).parents[1] / "docs" / "rules.schema.json"
    assert done.stdout == committed.read_text(), "run: handrail schema > docs/rules.schema.json"


def test_test_runs_the_tests_beside_the_rules(folder: Path) -> None:
    (folder / "rules" / "greet.test.yaml").write_text(TEST)
    done = handrail(folder, "test", "rules")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 test, 0 failed")
    (folder / "rules" / "greet.test.yaml").write_text(TEST.replace("expect: [{prompt: hello}]", "expect: []"))
    done = handrail(folder, "test", "rules")
    assert done.returncode == 1
    assert "FAILED  rules/greet.test.yaml:1  a greeting is answered" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 test, 1 failed"


@pytest.mark.parametrize(
    "call",
    [
        ["check", "nowhere"],
        ["check", "rules", "--format", "xml"],
        ["test", "nowhere"],
        ["nonsense"],
        ["serve", "--rules", "nowhere"],
        ["serve", "--port", "70000"],
        ["serve", "--role", "boss"],
        ["serve", "--role", "worker"],
        ["serve", "--redis", "redis://127.0.0.1:1"],
        ["explain", "ann"],
        ["explain", "ann", "greet", "--url", "127.0.0.1:8000"],
        ["explain", "ann", "greet", "--url", "http://127.0.0.1:1"],
    ],
)
def test_a_wrong_call_is_two_and_one_clear_word(folder: Path, call: list[str]) -> None:
    done = handrail(folder, *call)
    assert done.returncode == 2, done.stderr
    assert done.stderr
    assert "Traceback" not in done.stderr


# --- serve ----------------------------------------------------------------------------------------------------------


def test_help_says_of_every_command_in_full_what_it_does(folder: Path) -> None:
    told = handrail(folder, "--help").stdout
    assert "check    Check rule files: every problem, with its place." in told
    assert "..." not in told.partition("Commands:")[2]


def test_help_lists_the_settings(folder: Path) -> None:
    shown = handrail(folder, "serve", "--help").stdout
    for name in ("HANDRAIL_REDIS_URL", "HANDRAIL_CLIENT_SECRET", "HANDRAIL_ORIGINS", "--workers"):
        assert name in shown


def test_off_loopback_it_refuses_and_names_what_is_missing(folder: Path) -> None:
    done = handrail(folder, "serve", "--host", "0.0.0.0", HANDRAIL_WRITE_KEY="w")
    assert done.returncode == 2
    for name in ("HANDRAIL_CLIENT_SECRET", "HANDRAIL_ADMIN_KEY", "HANDRAIL_ORIGINS"):
        assert name in done.stderr
    assert "HANDRAIL_WRITE_KEY" not in done.stderr
    assert not (folder / ".handrail").exists()


def test_a_port_in_use_is_one_clear_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = handrail(folder, "serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "in use" in done.stderr


def test_what_is_odd_of_settings_and_store_is_told_once(start: Start, tmp_path: Path) -> None:
    with Master(tmp_path / "store") as master:
        process = start("--redis", master.url, "--workers", "2", HANDRAIL_LOG_LEVLE="debug", stderr=subprocess.PIPE)
        where(process)
        process.terminate()
        _, told = process.communicate(timeout=STOPS_WITHIN)
    assert told.count("HANDRAIL_LOG_LEVLE is no setting; did you mean 'HANDRAIL_LOG_LEVEL'?") == 1
    assert told.count("the store loses its data when it stops; set appendonly yes") == 1


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_with_streams_open_and_comes_back_with_its_data(start: Start, stop: signal.Signals) -> None:
    process = start()
    url = where(process)
    assert ask(f"{url}/readyz")["ready"] is True
    assert ask(f"{url}/v1/track", {"userId": "ann", "event": "greeted", "messageId": "m1"}) == {"success": True}
    helpers = children(process.pid)
    with urllib.request.urlopen(f"{url}/updates/sse?user_id=ann", timeout=10) as stream:
        assert stream.readline().startswith(b"event: welcome")
        os.kill(process.pid, stop)
        assert b"event: bye" in stream.read()
    assert process.wait(STOPS_WITHIN) == 0
    assert wait_for(lambda: all(gone(pid) for pid in helpers), 1)
    url = where(start())
    with urllib.request.urlopen(f"{url}/updates/sse?user_id=ann", timeout=10) as stream:
        welcome = json.loads([stream.readline() for _ in range(3)][2].removeprefix(b"data: "))
    assert [prompt["message"] for prompt in welcome["prompts"]] == ["hello"]


@pytest.mark.parametrize(("proxies", "second"), [("127.0.0.1", 200), ("192.0.2.1", 429)])
def test_an_address_is_believed_only_from_a_proxy_that_was_named(start: Start, proxies: str, second: int) -> None:
    url = where(start(HANDRAIL_PROXIES=proxies, HANDRAIL_ADDRESS_CONNECTIONS="1"))

    def open_stream(address: str) -> Any:
        asked = urllib.request.Request(f"{url}/updates/sse?user_id=ann", headers={"X-Forwarded-For": address})
        return urllib.request.urlopen(asked, timeout=10)

    with open_stream("198.51.100.1") as first:
        assert first.status == 200
        try:
            with open_stream("198.51.100.2") as stream:
                status = stream.status
        except urllib.error.HTTPError as refused:
            status = refused.code
            refused.close()
    assert status == second


def test_explain_asks_a_running_server(start: Start, folder: Path) -> None:
    url = where(start(HANDRAIL_ADMIN_KEY="secret"))
    ask(f"{url}/v1/track", {"userId": "ann", "event": "greeted"})
    refused = handrail(folder, "explain", "ann", "greet", "--url", url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "HANDRAIL_ADMIN_KEY" in refused.stderr
    told = handrail(folder, "explain", "ann", "greet", "--url", url, HANDRAIL_ADMIN_KEY="secret")
    assert told.returncode == 0, told.stderr
    assert "it would not fire: busy ('hello' is on the screen)" in told.stdout
    told = handrail(folder, "explain", "ann", "greet", "--url", url, "--format", "json", HANDRAIL_ADMIN_KEY="secret")
    assert json.loads(told.stdout)["reason"] == "busy"
    unknown = handrail(folder, "explain", "ann", "great", "--url", url, HANDRAIL_ADMIN_KEY="secret")
    assert unknown.returncode == 2
    assert unknown.stderr == "handrail: No trigger is named 'great'; did you mean 'greet'?\n"


def test_tail_shows_what_happened_and_makes_an_archive_that_replay_reads(start: Start, folder: Path) -> None:
    url = where(start(HANDRAIL_ADMIN_KEY="secret"))
    for user in ("ann", "ben", "ann"):
        ask(f"{url}/v1/track", {"userId": user, "event": "greeted"})
    refused = handrail(folder, "tail", "--no-follow", "--url", url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "HANDRAIL_ADMIN_KEY" in refused.stderr

    def tail(*options: str) -> str:
        done = handrail(folder, "tail", "--no-follow", "--url", url, *options, HANDRAIL_ADMIN_KEY="secret")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert tail() == ""
    told = tail("--since", "1h", "--user", "ann").splitlines()
    assert told[0].endswith("  ann  track greeted")
    assert told[1] == "    greet: prompt hello"
    assert told[3].startswith("    greet: suppressed busy")
    odd = handrail(folder, "tail", "--since", "soon", "--url", url, HANDRAIL_ADMIN_KEY="secret")
    assert odd.returncode == 2
    assert "`since` is no duration" in odd.stderr
    archive = folder / "archive.jsonl"
    archive.write_text(tail("--since", "1h", "--format", "json"))
    replayed = handrail(folder, "replay", "rules", "archive.jsonl", "--format", "json")
    assert replayed.returncode == 0, replayed.stderr
    found = json.loads(replayed.stdout)
    assert (found["archive"]["logged"], found["rules"]["users"]) == (3, 2)
    assert found["rules"]["triggers"]["greet"]["outcomes"]["fired"] == {"users": 2, "times": 2}


def test_tail_goes_on_with_what_comes(start: Start, folder: Path) -> None:
    url = where(start())
    command = [sys.executable, "-m", "handrail", "tail", "--url", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, text=True) as process:
        assert process.stdout is not None
        answers = threading.Thread(target=_keep_greeting, args=(url, process))
        answers.start()
        assert process.stdout.readline().endswith("track greeted\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        answers.join()


def _keep_greeting(url: str, process: subprocess.Popen[str]) -> None:
    """Until the other has read something: nobody says when it listens."""
    while process.poll() is None:
        ask(f"{url}/v1/track", {"userId": "ann", "event": "greeted"})
        time.sleep(0.1)


def test_several_processes_serve_one_store_and_end_together(start: Start) -> None:
    process = start("--workers", "2")
    url = where(process)
    for index in range(20):
        assert ask(f"{url}/v1/track", {"userId": f"u{index}", "event": "greeted"}) == {"success": True}
    helpers = children(process.pid)
    assert len(helpers) >= 3  # two servers and the store
    process.terminate()
    assert process.wait(STOPS_WITHIN) == 0
    assert wait_for(lambda: all(gone(pid) for pid in helpers), 1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not tell children")
def test_nothing_outlives_a_parent_that_was_killed(start: Start) -> None:
    process = start("--workers", "2")
    where(process)
    helpers = children(process.pid)
    process.kill()
    process.wait()
    assert wait_for(lambda: all(gone(pid) for pid in helpers), STOPS_WITHIN)


def test_a_saved_rule_is_live_within_a_second_in_every_process(start: Start, folder: Path) -> None:
    url = where(start("--workers", "2"))
    before = ask(f"{url}/readyz")["rules"]["version"]
    (folder / "rules" / "more.yaml").write_text(RULES.replace("greet", "welcome").replace("hello", "hey"))
    versions: list[str] = []

    def everywhere() -> bool:
        versions.append(ask(f"{url}/readyz")["rules"]["version"])
        return len(versions) > 8 and before not in versions[-8:]

    assert wait_for(everywhere, 5)
    (folder / "rules" / "more.yaml").write_text("mesage: x\n")
    assert wait_for(lambda: bool(ask(f"{url}/readyz")["rules"]["problems"]), 5)
    report = ask(f"{url}/readyz")
    assert report["ready"] is True
    assert report["rules"]["version"] == versions[-1]
