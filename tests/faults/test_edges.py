"""What hostile and unlucky peers do to a real server, and what it costs: one line of figures for each fault."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx2
import pytest

from echoing import BINARY, CLOSE, CONT, HANDSHAKE, PING, PONG, TEXT, Peer, close, echoing, frame

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")

MB = 2**20
RSS_MORE = 20 * MB  # what an attack may cost
READER = 256 * 1024  # what a reader that takes nothing may cost, the kernel's part included
HEALTHY = 1_000.0  # ms: a bound for any machine, however busy; the figures tell more
PAGE = 50 * 1024  # what a page that is welcome may cost
RULES = """
trigger: fill
when: {event: filled}
then: [{content: {slot: top, message: large}}]
---
message: large
kind: inline
title: "{{ event.properties.n }}"
"""


class Server:
    """`handrail serve` as a process, with its embedded store."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.pid = process.pid
        self.port = port
        self.log = log

    @property
    def rss(self) -> int:
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """The most it had since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @property
    def sockets(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def unread(self) -> int:
        """The most bytes the kernel holds for one peer."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        own = f":{self.port:04X}"
        return max((int(row[4].split(":")[0], 16) for row in rows if row[1].endswith(own)), default=0)

    def _status(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("edges")
    (folder / "rules").mkdir()
    (folder / "rules" / "rules.yaml").write_text(RULES)
    options = ["--port", "0", "--rules", "rules"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HANDRAIL_")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "handrail", "serve", *options],
            cwd=folder,
            env=environ | {"HANDRAIL_DEMO": "off", "HANDRAIL_LOG_LEVEL": "warning"},
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            assert process.stdout
            greeting = re.search(rb"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert greeting, (folder / "log").read_text()
            yield Server(process, int(greeting[1]), folder / "log")
        finally:
            process.terminate()
            process.wait(20)
            assert process.stdout
            process.stdout.close()


class Report:
    """The figures of one fault."""

    def __init__(self, server: Server, fault: str) -> None:
        self._server = server
        self.figures: dict[str, object] = {"fault": fault}
        self.log_before = server.log.stat().st_size
        self.before = server.rss
        server.forget_peak()

    def print(self, healthy: dict[str, float], most: int, log: int) -> None:
        more = self._server.peak - self.before
        lines = self._server.log.stat().st_size - self.log_before
        self.figures |= {"rss_before_mb": _mb(self.before), "rss_more_mb": _mb(more), "log_bytes": lines}
        self.figures |= {"healthy_p99_ms": round(healthy["p99"], 1), "healthy_max_ms": round(healthy["max"], 1)}
        print(json.dumps(self.figures))
        assert more <= most
        assert lines <= log
        assert healthy["p99"] <= HEALTHY


def _mb(size: int) -> float:
    return round(size / MB, 1)


@contextmanager
def measuring(server: Server, fault: str, *, most: int = RSS_MORE, log: int = 0) -> Iterator[dict[str, object]]:
    """Figures to add to, while a healthy page asks; checked and printed at the end. RSS may grow by `most`, the
    log by `log`."""
    probe = [sys.executable, str(Path(__file__).with_name("probing.py")), str(server.port)]
    with subprocess.Popen(probe, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
        assert asking.stdin
        assert asking.stdout
        assert asking.stdout.readline() == b"asking\n"
        report = Report(server, fault)
        try:
            yield report.figures
        finally:
            asking.stdin.close()
            told = asking.stdout.read()
    report.print(json.loads(told), most, log)


def until(holds: Callable[[], bool], within: float) -> float:
    """How long it took until it held."""
    start = monotonic()
    while not holds():
        assert monotonic() - start < within, "it took too long"
        sleep(0.02)
    return round(monotonic() - start, 2)


def open_socket(server: Server, *, receive_buffer: int = 0) -> Peer:
    peer = Peer(server.port, receive_buffer=receive_buffer)
    assert peer.upgrade()[:12] == b"HTTP/1.1 101"
    return peer


def ended(peer: Peer) -> int:
    """The code the server closes with, after whatever else it says; 0 for none."""
    *_, (opcode, payload) = [(0, b""), *peer.frames()]
    return struct.unpack("!H", payload[:2])[0] if opcode == CLOSE else 0


# --- leaving ---


def test_f43_half_closed_and_reset(server: Server) -> None:
    halves = [
        HANDSHAKE[:50],
        HANDSHAKE + b"\r\n",
        b"POST /v1/track HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n{",
        b"GET /updates/sse?user_id=half HTTP/1.1\r\nHost: a\r\n\r\n",
        HANDSHAKE + b"\r\n" + frame(TEXT, b'{"type":"hello"', size=60),
    ]
    with measuring(server, "F43") as figures:
        base = server.sockets
        for number in range(300):
            peer = Peer(server.port)
            peer.send(halves[number % len(halves)])
            if number % 3:
                peer.pause(0.001)
            if number % 2:
                peer.socket.shutdown(socket.SHUT_WR)
                peer.rest()
            else:
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.socket.close()
        figures |= {"peers": 300, "cleaned_s": until(lambda: server.sockets <= base, 10)}


# --- WebSocket ---


def test_f47_bombs(server: Server) -> None:
    packer = zlib.compressobj(wbits=-15)
    bomb = (packer.compress(b"*" * 15 * MB) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    bombs = {"packed": (frame(BINARY, bomb, reserved=4), 1002), "claimed": (frame(TEXT, b"*", size=2**30), 1009)}
    with measuring(server, "F47") as figures:
        figures["bytes_of_a_bomb"] = len(bomb)
        for name, (sent, code) in bombs.items():
            codes = []
            for _ in range(50):
                with Peer(server.port) as peer:
                    peer.upgrade(b"Sec-WebSocket-Extensions: permessage-deflate")
                    peer.send(sent)
                    codes.append(ended(peer))
            figures[name] = f"50 closed with {code}"
            assert codes == [code] * 50


FLOODS = {
    "fragments": (frame(TEXT, b"{", fin=False), frame(CONT, b"x", fin=False), 1008),
    "empty_fragments": (frame(TEXT, b"", fin=False), frame(CONT, b"", fin=False), 1008),
    "pings": (b"", frame(PING, b"p" * 125), 1008),
    "pongs": (b"", frame(PONG, b"p" * 125), 1008),
    "too_long": (frame(TEXT, b"", size=16 * MB), b"x", 1009),
}


def test_f48_floods(server: Server) -> None:
    with measuring(server, "F48") as figures:
        for name, (first, then, code) in FLOODS.items():
            ends = [flood(server, first, then) for _ in range(10)]
            figures[f"{name}_closed_s"] = max(took for _, took in ends)
            assert [found for found, _ in ends] == [code] * 10
            assert max(took for _, took in ends) <= 2
        with unfinished(server):
            sleep(0.5)


@pytest.mark.long
def test_f48_messages_that_never_end(server: Server) -> None:
    with measuring(server, "F48") as figures, unfinished(server) as peers:
        start = monotonic()
        for peer in peers:
            peer.socket.settimeout(15)
            assert ended(peer) == 1008
        figures["unfinished_closed_s"] = round(monotonic() - start, 1)


def flood(server: Server, first: bytes, then: bytes) -> tuple[int, float]:
    """Send without reading until the server goes; with which code, and when."""
    with open_socket(server) as peer:
        start = monotonic()
        peer.send(first)
        piece = then * (65_536 // len(then))
        try:
            while monotonic() - start < 5:
                peer.socket.sendall(piece)
        except OSError:
            pass
        took = round(monotonic() - start, 2)
        return ended(peer), took


@contextmanager
def unfinished(server: Server) -> Iterator[list[Peer]]:
    """Forty peers with a message of 60 kB that does not end."""
    with ExitStack() as stack:
        peers = [stack.enter_context(open_socket(server)) for _ in range(40)]
        for number, peer in enumerate(peers):
            peer.send(frame(TEXT, b'{"type":"hello","user_id":"endless-%d"}' % number))
            peer.send(frame(TEXT, b"x" * 60_000, fin=False))
        yield peers


def test_f49_what_is_no_frame(server: Server) -> None:
    wrong = [
        *[(frame(TEXT, b"a", reserved=bits), 1002) for bits in range(1, 8)],
        *[(frame(opcode), 1002) for opcode in (3, 7, 11, 15, CONT)],
        *[(close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)],
        *[
            (frame(TEXT, data), 1007)
            for data in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82")
        ],
        (frame(TEXT, b"a", key=None), 1002),
        (frame(PING, b"p" * 126), 1002),
        (frame(CLOSE, b"\x03"), 1002),
    ]
    with measuring(server, "F49") as figures:
        failed = 0
        for sent, code in wrong * 10:
            with open_socket(server) as peer:
                peer.send(sent)
                failed += ended(peer) != code
        figures |= {"frames": len(wrong) * 10, "failed": failed}
    assert failed == 0


# --- HTTP ---


def endless(server: Server, first: bytes, then: bytes) -> tuple[bytes, float]:
    """Send on and on; the status line, and when the server had enough."""
    with Peer(server.port) as peer:
        start = monotonic()
        peer.send(first)
        try:
            while monotonic() - start < 8:
                peer.socket.sendall(then)
        except OSError:
            pass
        took = round(monotonic() - start, 2)
        return peer.head()[9:12], took


def creep(server: Server, count: int) -> float:
    """So many requests that begin and do not go on; how long until the last was closed."""
    base = server.sockets
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.port)) for _ in range(count)]
        for number, peer in enumerate(peers):
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n"[: number % 25])
        return until(lambda: server.sockets <= base, 12)


def attack_http(server: Server, slow: int) -> None:
    field = b"X-A: " + b"a" * 20 + b"\r\n"
    start = b"POST /v1/batch HTTP/1.1\r\nHost: a\r\n"
    chunk = b"1000\r\n" + b"x" * 4_096 + b"\r\n"
    with measuring(server, "F50") as figures:
        attacks = {
            "endless_field": (b"GET / HTTP/1.1\r\nX: ", b"a" * 65_536, b"431"),
            "endless_fields": (b"GET / HTTP/1.1\r\n", field * 2_000, b"431"),
            "endless_body": (start + b"Content-Length: 999999999\r\n\r\n", b"x" * 65_536, b"413"),
            "endless_chunks": (start + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 10, b"413"),
        }
        for name, (first, then, status) in attacks.items():
            ends = [endless(server, first, then) for _ in range(10)]
            figures[f"{name}_closed_s"] = max(took for _, took in ends)
            assert [found for found, _ in ends] == [status] * 10
        figures |= {"creeping": slow, "creeping_closed_s": creep(server, slow)}
        for sent in (
            b"POST /v1/track HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            HANDSHAKE + b"Content-Length: 40\r\n\r\nGET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n",
        ):
            with Peer(server.port) as peer:
                peer.send(sent)
                assert peer.head() == b"HTTP/1.1 400 Bad Request"
                assert b"HTTP/1.1" not in peer.rest().partition(b"}")[2]


def test_f50_http(server: Server) -> None:
    attack_http(server, 300)


@pytest.mark.long
def test_f50_http_with_two_thousand_that_creep(server: Server) -> None:
    attack_http(server, 2_000)


# --- readers: last, for the memory they need would hide what others do ---


def open_reader(server: Server, user: str, kind: str) -> Peer:
    if kind == "sse":
        peer = Peer(server.port, receive_buffer=4_096)
        peer.send(b"GET /updates/sse?user_id=%s HTTP/1.1\r\nHost: a\r\n\r\n" % user.encode())
        assert peer.head() == b"HTTP/1.1 200 OK"
    else:
        peer = open_socket(server, receive_buffer=4_096)
        peer.send(frame(TEXT, b'{"type":"hello","user_id":"%s"}' % user.encode()))
    return peer


def fill(server: Server, user: str, count: int, size: int = 8_000) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        for number in range(count):
            event = {"userId": user, "event": "filled", "properties": {"n": f"{number} " + "x" * size}}
            assert client.post("/v1/track", json=event, auth=("key", "")).status_code == 200


def stall(server: Server, count: int) -> None:
    """`count` readers that take nothing of 320 kB."""
    with measuring(server, "F35", most=count * READER) as figures, ExitStack() as stack:
        base, rss = server.sockets, server.rss
        for number in range(count):
            kind = "sse" if number % 20 < 10 else "websocket"
            stack.enter_context(open_reader(server, f"still-{count}-{number % 10}", kind))
        assert server.sockets >= base + count
        for number in range(10):
            fill(server, f"still-{count}-{number}", 40)
        kernel = server.unread()
        figures |= {"readers": count, "kernel_kb_each": kernel // 1024}
        figures["gone_s"] = until(lambda: server.sockets <= base + 1, 7)
        figures["user_kb_each"] = (server.peak - rss) // 1024 // count
        assert kernel + (server.peak - rss) // count <= READER


def test_f35_readers_that_take_nothing(server: Server) -> None:
    stall(server, 200)


@pytest.mark.long
def test_f35_a_thousand_readers_that_take_nothing(server: Server) -> None:
    stall(server, 1_000)


def test_f36_readers_that_take_a_little(server: Server) -> None:
    with measuring(server, "F36") as figures, ExitStack() as stack:
        readers = {
            kind: stack.enter_context(open_reader(server, f"drip-{kind}", kind)) for kind in ("websocket", "sse")
        }
        for kind in readers:
            fill(server, f"drip-{kind}", 60)
        with ThreadPoolExecutor(2) as pool:
            took = {kind: pool.submit(drip, reader) for kind, reader in readers.items()}
        figures |= {f"{kind}_closed_s": future.result() for kind, future in took.items()}
        assert all(future.result() <= 15 for future in took.values())


def drip(reader: Peer) -> float:
    """Take a kilobyte a second; how long the server put up with it."""
    start = monotonic()
    reader.socket.settimeout(1)
    while monotonic() - start < 30:
        try:
            if not reader.socket.recv(100):
                break
        except OSError:
            break
        sleep(0.1)
    return round(monotonic() - start, 1)


FROZEN = """
import sys
sys.path[:0] = [{tests!r}]
from echoing import TEXT, Peer, frame
peers = [Peer({port}) for _ in range({count})]
assert all(peer.upgrade()[:12] == b"HTTP/1.1 101" for peer in peers)
for number, peer in enumerate(peers):
    peer.send(frame(TEXT, b'{{"type":"hello","user_id":"cold-%d"}}' % number))
print("open", flush=True)
input()
"""


@contextmanager
def frozen(port: int, count: int) -> Iterator[None]:
    """A process with so many open connections, stopped in the midst of it."""
    program = FROZEN.format(tests=str(Path(__file__).parents[1]), port=port, count=count)
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"open\n"
            process.send_signal(signal.SIGSTOP)
            yield
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def test_f37_peers_that_froze_are_found_by_their_silence() -> None:
    with echoing(ws_ping_interval=1.0, ws_ping_timeout=1.0) as ground, frozen(ground.port, 200):
        took = until(lambda: len(ground.echo.closed) == 200, 10)
        print(json.dumps({"fault": "F37", "peers": 200, "ping_s": 1, "timeout_s": 1, "reaped_s": took}))
        assert ground.counts["ws_closed_silent"] == 200
    assert took <= 5


@pytest.mark.long
def test_f37_thousands_of_peers_that_froze(server: Server) -> None:
    """As many as this machine lets a process open, and opens before the first of them is found."""
    peers = min(4_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)
    with measuring(server, "F37", most=peers * PAGE, log=5_000) as figures:
        figures["peers"] = peers
        base = server.sockets
        with frozen(server.port, peers):
            figures["reaped_s"] = until(lambda: server.sockets <= base + 1, 45)
        figures["rss_after_mb"] = round(server.rss / MB, 1)
