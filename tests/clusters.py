"""Real Redis servers for tests, many at a time: a cluster of three masters and three replicas, or a watched pair."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis

from handrail.store.binary import find_server
from handrail.store.embedded import LEASH
from handrail.store.pipeline import pack

BINARY = shutil.which("redis-server") or str(find_server())  # Redis from the system's packages, else what ships
PORTS = iter(range(20_000 + os.getpid() % 97 * 100, 50_000))  # none is given twice: a killed server keeps its own
TIMEOUT = 2_000  # cluster-node-timeout, ms
FOLLOWED = ["['connected']", "[]"]  # what ROLE says fourth, of a replica and of a master
JOINING = 20.0  # seconds that servers may take to find each other


class Server:
    """A redis-server on a free port of this machine, in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def revive(self) -> None:
        """Have it run again, if it was killed or stopped."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGCONT)
        else:
            self.start()

    def start(self) -> None:
        command = [
            BINARY,
            *self._arguments,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self._folder),
        ]
        command += ["--logfile", "log", "--protected-mode", "no"]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *command]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={"LC_ALL": "C"})
        wait_for(self._answers, 10)

    def ask(self, *command: Any) -> Any:
        """One command; an error answer is returned, not raised."""
        with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            connection.sendall(pack(command))
            reader = hiredis.Reader(encoding="utf-8", notEnoughData=Ellipsis)
            while (reply := reader.gets()) is Ellipsis:
                data = connection.recv(65_536)
                if not data:
                    raise ConnectionError(self.place)
                reader.feed(data)
            return reply

    def signal(self, number: signal.Signals) -> None:
        """SIGKILL and SIGSTOP are done when this returns."""
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self.kill()

    def kill(self) -> None:
        """As kill -9."""
        assert self._process is not None
        self._process.kill()  # works on a stopped one, too
        self._process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING") == "PONG")
        except OSError:
            return False


class Cluster:
    """`masters` are asked for anew each time: they change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(TIMEOUT), "--appendonly", "yes"]
        options += ["--cluster-require-full-coverage", "no", "--save", "", "--repl-diskless-sync-delay", "0"]
        self._options = options
        self.servers = [Server(folder / str(number), *options) for number in range(6)]
        self.url = "redis+cluster://" + ",".join(server.place for server in self.servers)

    def join(self) -> None:
        """Three masters share the slots, each has a replica."""
        first, *others = self.servers
        for number, server in enumerate(self.servers[:3]):
            span = (number * 16384 // 3, (number + 1) * 16384 // 3 - 1)
            assert server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1) == "OK"
            assert server.ask("CLUSTER", "ADDSLOTSRANGE", *span) == "OK"
        for other in others:
            assert other.ask("CLUSTER", "MEET", "127.0.0.1", first.port) == "OK"
        self.meet()
        for master, replica in zip(self.servers[:3], self.servers[3:], strict=True):
            name = master.ask("CLUSTER", "MYID")
            wait_for(lambda r=replica, n=name: r.ask("CLUSTER", "REPLICATE", n) == "OK", JOINING)  # type: ignore[misc]
        self.settle()

    def add(self) -> Server:
        """One more server, which knows nobody yet."""
        self.servers.append(Server(self._folder / str(len(self.servers)), *self._options))
        return self.servers[-1]

    def meet(self) -> None:
        """Return when everybody knows everybody and is ready for slots."""
        wait_for(lambda: all(len(_lines(server)) == len(self.servers) for server in self.servers), JOINING)
        wait_for(lambda: not any("handshake" in line for each in self.servers for line in _lines(each)), JOINING)
        wait_for(lambda: all("cluster_state:ok" in each.ask("CLUSTER", "INFO") for each in self.servers), JOINING)

    def mend(self) -> None:
        """Start again what was killed."""
        for server in self.servers:
            server.revive()
        self.settle()

    def settle(self) -> None:
        """Return when all is as it should be: everybody there, three masters, replicas that follow them."""
        wait_for(self._is_whole, JOINING, lambda: "\n".join(f"{each.place}: {_tell(each)}" for each in self.servers))

    def _is_whole(self) -> bool:
        return len(self.masters) == 3 and all(map(_is_well, self.servers))

    @property
    def masters(self) -> list[Server]:
        return [server for server in self.servers if server.ask("ROLE")[0] == "master"]

    def owner(self, slot: int) -> Server:
        """The master that holds a slot."""
        for first, last, node, *_ in self.servers[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == node[1])
        raise LookupError(slot)

    def held_by(self, server: Server) -> int:
        """How many slots."""
        rows = server.ask("CLUSTER", "SLOTS")
        return sum(last - first + 1 for first, last, node, *_ in rows if node[1] == server.port)

    def move(self, slot: int, *, pause: Callable[[], None] = lambda: None) -> None:
        """Migrate a slot to another master, key by key, as redis-cli does; `pause` is called between the keys."""
        source = self.owner(slot)
        target = next(server for server in self.masters if server is not source)
        names = source.ask("CLUSTER", "MYID"), target.ask("CLUSTER", "MYID")
        assert target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0]) == "OK"
        assert source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1]) == "OK"
        pause()
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.ask("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 2_000)
            pause()
        for server in (target, source, *(each for each in self.masters if each not in (source, target))):
            assert server.ask("CLUSTER", "SETSLOT", slot, "NODE", names[1]) == "OK"

    def clear(self) -> None:
        for master in self.masters:
            assert master.ask("FLUSHALL") == "OK"


@contextlib.contextmanager
def clustered(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        cluster.join()
        yield cluster
    finally:
        for server in cluster.servers:
            server.kill()


class Watched:
    """A master, its replica, and three Sentinels that watch them under the name `hand`."""

    def __init__(self, folder: Path) -> None:
        options = ("--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0")
        master = Server(folder / "a", *options)
        self.servers = [master, Server(folder / "b", *options, "--replicaof", "127.0.0.1", str(master.port))]
        self.sentinels = [self._watch(folder / f"s{number}", master) for number in range(3)]
        self.url = "redis+sentinel://" + ",".join(each.place for each in self.sentinels) + "/hand"

    def _watch(self, folder: Path, master: Server) -> Server:
        folder.mkdir(parents=True)
        conf = folder / "sentinel.conf"
        lines = [f"sentinel monitor hand 127.0.0.1 {master.port} 2", "sentinel down-after-milliseconds hand 1000"]
        conf.write_text("\n".join([*lines, "sentinel failover-timeout hand 5000", ""]))
        return Server(folder, str(conf), "--sentinel")

    @property
    def master(self) -> Server:
        """The one that the first Sentinel names."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "hand")
        return next(server for server in self.servers if server.port == int(port))

    def mend(self) -> None:
        """Have everybody run, and follow whom the Sentinels chose; left to themselves they take ten seconds."""
        master = self.master
        for server in self.servers:
            server.revive()
            if server is not master:
                server.ask("REPLICAOF", "127.0.0.1", master.port)
        self.settle()

    def settle(self) -> None:
        """Return when the Sentinels know each other and the replica follows."""
        wait_for(lambda: all(self._knows(each) for each in self.sentinels), JOINING)
        wait_for(lambda: sorted(str(server.ask("ROLE")[3:4]) for server in self.servers) == FOLLOWED, JOINING)

    def _knows(self, sentinel: Server) -> bool:
        said = sentinel.ask("SENTINEL", "MASTER", "hand")
        facts = dict(zip(said[::2], said[1::2], strict=True))
        return bool((facts["num-slaves"], facts["num-other-sentinels"], facts["flags"]) == ("1", "2", "master"))


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    pair = Watched(folder)
    try:
        pair.settle()
        yield pair
    finally:
        for server in (*pair.sentinels, *pair.servers):
            server.kill()


def wait_for(condition: Callable[[], bool], seconds: float, tell: Callable[[], str] = str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"the servers did not come to it in time\n{tell()}"
        time.sleep(0.05)


def free_port() -> int:
    """One whose cluster bus, 10,000 above, is free as well; ports of the kernel's own choice are too high for that."""
    for port in PORTS:
        with contextlib.suppress(OSError):
            for each in (port, port + 10_000):
                socket.create_server(("127.0.0.1", each)).close()
            return port
    raise OSError("no free port")


def _is_well(server: Server) -> bool:
    lines, role = _lines(server), server.ask("ROLE")
    holders = [words for line in lines if "master" in (words := line.split())[2] and words[7:8] == ["connected"]]
    return (
        sum(any("-" in slots for slots in words[8:]) for words in holders) == 3
        and not any("fail" in line or "handshake" in line for line in lines)
        and (_is_followed(role) if role[0] == "master" else role[3] == "connected")
        and "cluster_state:ok" in server.ask("CLUSTER", "INFO")
    )


def _is_followed(role: Any) -> bool:
    """A replica that has just been sent everything is told what follows only from its first acknowledgement on."""
    return bool(role[2]) and all(int(replica[2]) > 0 for replica in role[2])


def _tell(server: Server) -> str:
    return "\n  ".join([str(server.ask("ROLE")[:4]), server.ask("CLUSTER", "INFO").partition("\r")[0], *_lines(server)])


def _lines(server: Server) -> list[str]:
    return str(server.ask("CLUSTER", "NODES")).splitlines()
