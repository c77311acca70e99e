from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from receivers import Received, Receiver, receiving, until
from standardwebhooks import Webhook as Verifier
from structlog.testing import capture_logs

import handrail
from handrail.core.state import State
from handrail.core.webhooks import Webhook
from handrail.outbound.lanes import AT_ONCE
from handrail.outbound.outcomes import WAITS
from handrail.outbound.webhooks import DEADLINE, LEASE, UNKNOWN_FOR, Courier
from handrail.store.embedded import Embedded
from handrail.store.protocol import Commit, Job, Store

KEY = bytes(range(32))
FAR = 10 * 86_400_000


@dataclass
class Office:
    """A courier's surroundings in a test: the store, the rules, and a clock that stands still unless moved."""

    store: Store
    hooks: Mapping[str, Webhook] | None = field(default_factory=dict)
    now: int = field(default_factory=lambda: int(time.time() * 1000))

    def courier(self, *, allow_private: bool = True, deadline: int = DEADLINE) -> Courier:
        return Courier(
            self.store,
            lambda: self.hooks,
            clock=lambda: self.now,
            chance=lambda: 0.5,
            allow_private=allow_private,
            deadline=deadline,
        )

    def serve(self, *hooks: Webhook) -> None:
        self.hooks = {hook.name: hook for hook in hooks}

    async def post(
        self, *ids: str, webhook: str = "mail", attempt: int = 0, body: bytes = b'{"to": "a@b.example"}'
    ) -> None:
        """Commit jobs, one user each, as the runner does."""
        for name in ids:
            job = Job(id=name, user=name, webhook=webhook, body=body, created=self.now, due=self.now, attempt=attempt)
            state = State(user=name, epoch="e", version=1)
            assert await self.store.commit(Commit(state=state, expected=0, jobs=(job,), now=self.now))

    async def left(self) -> list[Job]:
        """The jobs that are still in the store, whenever they are due."""
        return await self.store.claim_jobs(self.now + FAR, 1, 1000)

    async def due(self, after: int) -> list[str]:
        """Ids of jobs that a courier could claim `after` ms from now; hides them for 1 ms."""
        return [job.id for job in await self.store.claim_jobs(self.now + after, 1)]


@pytest.fixture
def office(store: Store) -> Office:
    return Office(store)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


@asynccontextmanager
async def sending(courier: Courier) -> AsyncIterator[Courier]:
    """The courier at work; on leaving, the tries under way have ended and the store knows."""
    task = asyncio.create_task(courier.run())
    try:
        yield courier
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_call_is_signed_delivered_and_done_with(office: Office, receiver: Receiver) -> None:
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail?x=1", key=KEY, headers={"Authorization": "Bearer t"}))
    body = json.dumps({"to": "zoë@b.example"}, ensure_ascii=False).encode()
    await office.post("msg_1", body=body)
    async with sending(office.courier()):
        (got,) = await receiver.wait("/mail")
    assert await office.left() == []
    assert got.request.method == "POST"
    assert got.request.query_string == "x=1"
    assert got.body == body
    assert got.headers["webhook-id"] == "msg_1"
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Accept-Encoding"] == "identity"
    assert got.headers["Authorization"] == "Bearer t"
    Verifier(KEY).verify(got.body, got.headers)


async def test_without_a_secret_it_is_unsigned(office: Office, receiver: Receiver) -> None:
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail"))
    await office.post("msg_1")
    async with sending(office.courier()):
        (got,) = await receiver.wait("/mail")
    assert "webhook-id" in {name.lower() for name in got.headers}
    assert "webhook-signature" not in {name.lower() for name in got.headers}


async def test_a_failure_is_tried_again_by_the_schedule_with_the_same_id_and_body(
    office: Office, receiver: Receiver
) -> None:
    receiver.answer("/mail", 500, 503, 200)
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail", key=KEY))
    await office.post("msg_1")
    for tries, wait in ((1, WAITS[0]), (2, WAITS[1])):
        async with sending(office.courier()):
            await receiver.wait("/mail", tries)
        assert await office.due(wait - 1) == []
        office.now += wait
    async with sending(office.courier()):
        got = await receiver.wait("/mail", 3)
    assert await office.left() == []
    assert {call.headers["webhook-id"] for call in got} == {"msg_1"}
    assert len({call.body for call in got}) == 1
    assert len({call.headers["webhook-timestamp"] for call in got}) == 3


@pytest.mark.parametrize(
    ("status", "asked", "attempt", "due"),
    [
        (404, None, 0, WAITS[0]),
        (302, None, 3, WAITS[3]),
        (500, "900", 8, WAITS[8]),
        (503, "900", 0, 900_000),
        (429, "86400", 0, 12 * 3_600_000),
        (410, None, 0, None),
        (500, None, 9, None),
    ],
)
async def test_what_an_answer_leads_to(
    office: Office, receiver: Receiver, status: int, asked: str | None, attempt: int, due: int | None
) -> None:
    receiver.answer("/mail", status, Location="/elsewhere", **({"Retry_After": asked} if asked else {}))
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail"))
    await office.post("msg_1", attempt=attempt)
    async with sending(office.courier()):
        await receiver.wait("/mail")
    assert receiver.at("/elsewhere") == []
    if due is None:
        assert await office.left() == []
    else:
        assert await office.due(due - 1) == []
        (job,) = await office.left()
        assert job.attempt == attempt + 1


async def test_a_poke_sends_at_once_what_was_committed_meanwhile(office: Office, receiver: Receiver) -> None:
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail"))
    await office.post("msg_1")
    async with sending(office.courier()) as courier:
        await receiver.wait("/mail")
        await office.post("msg_2")
        courier.poke()
        await receiver.wait("/mail", 2)
    assert await office.left() == []


async def test_a_hung_endpoint_does_not_hold_up_the_others(office: Office, receiver: Receiver) -> None:
    release = receiver.hang("/hung")
    office.serve(Webhook(name="hung", url=f"{receiver.url}/hung"), Webhook(name="mail", url=f"{receiver.url}/mail"))
    await office.post(*(f"hung_{n}" for n in range(400)), webhook="hung")
    await office.post(*(f"mail_{n}" for n in range(100)))
    async with sending(office.courier()) as courier:
        await receiver.wait("/hung", AT_ONCE)
        courier.poke()
        await receiver.wait("/mail", 100)
        assert len(receiver.at("/hung")) == AT_ONCE
        release.set()
    left = await office.left()
    assert {job.webhook for job in left} == {"hung"}
    assert {job.attempt for job in left} == {0}


async def test_calls_to_a_parked_webhook_wait_and_lose_no_try(office: Office, receiver: Receiver) -> None:
    office.serve(Webhook(name="mail", url="", missing=("MAIL_URL",)))
    await office.post("msg_1")
    await office.post("other_1", webhook="other")
    office.hooks = {**(office.hooks or {}), "other": Webhook(name="other", url=f"{receiver.url}/other")}
    with capture_logs() as logs:
        async with sending(office.courier()):
            await receiver.wait("/other")
    assert [(entry["webhook"], entry["reason"]) for entry in logs if entry["log_level"] == "warning"] == [
        ("mail", "not set: MAIL_URL")
    ]
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail"))
    office.now += LEASE
    async with sending(office.courier()):
        await receiver.wait("/mail")
    assert await office.left() == []


async def test_calls_to_a_webhook_nobody_knows_are_given_up_after_a_while(office: Office, receiver: Receiver) -> None:
    office.serve(Webhook(name="other", url=f"{receiver.url}/other"))
    await office.post("msg_1")
    await office.post("other_1", webhook="other")
    async with sending(office.courier()):
        await receiver.wait("/other")
    assert await office.due(LEASE - 1) == []
    office.now += UNKNOWN_FOR
    await office.post("other_2", webhook="other")
    with capture_logs() as logs:
        async with sending(office.courier()):
            await receiver.wait("/other", 2)
            await until(lambda: any(entry["event"] == "webhook given up" for entry in logs))
    assert {"webhook": "mail", "message": "msg_1", "reason": "the webhook is no longer in the rules"}.items() <= next(
        entry for entry in logs if entry["log_level"] == "error"
    ).items()


async def test_without_rules_nothing_is_touched(office: Office) -> None:
    office.hooks = None
    await office.post("msg_1")
    async with sending(office.courier()) as courier:
        for _ in range(5):
            courier.poke()
            await asyncio.sleep(0)
    assert await office.due(0) == ["msg_1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_address_is_refused_with_advice_and_tried_again(
    office: Office, receiver: Receiver, host: str
) -> None:
    office.serve(Webhook(name="mail", url=receiver.url.replace("127.0.0.1", host) + "/mail"))
    await office.post("msg_1")
    with capture_logs() as logs:
        async with sending(office.courier(allow_private=False)):
            await until(lambda: bool(logs))
    assert receiver.got == []
    assert "HANDRAIL_WEBHOOK_ALLOW_PRIVATE" in logs[0]["reason"]
    (job,) = await office.left()
    assert job.attempt == 1


async def test_logs_name_the_call_and_nobody(office: Office, receiver: Receiver) -> None:
    receiver.answer("/secret-path", 200, 500, 410)
    office.serve(Webhook(name="mail", url=f"{receiver.url}/secret-path?token=t0k3n", key=KEY))
    with capture_logs() as logs:
        async with sending(office.courier()) as courier:
            for count, name in enumerate(("ann@mail.example", "msg_2", "msg_3"), 1):
                await office.post(name)
                courier.poke()
                await receiver.wait("/secret-path", count)
    assert [(entry["event"], entry["webhook"], entry["attempt"]) for entry in logs] == [
        ("webhook delivered", "mail", 1),
        ("webhook to be tried again", "mail", 1),
        ("webhook given up", "mail", 1),
    ]
    text = repr(logs)
    assert not [private for private in ("ann", "b.example", "t0k3n", "secret-path", "127.0.0.1") if private in text]


async def test_no_proxy_of_the_environment_and_no_cookie_is_used(
    office: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"{receiver.url}/proxied")
    receiver.answer("/mail", 200, Set_Cookie="a=b; Path=/")
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail"))
    async with sending(office.courier()) as courier:
        for count in (1, 2):
            await office.post(f"msg_{count}")
            courier.poke()
            got = await receiver.wait("/mail", count)
    assert len(receiver.got) == 2
    assert "Cookie" not in got[1].headers


async def endless(received: Received) -> web.StreamResponse:
    response = web.StreamResponse(status=200)
    await response.prepare(received.request)
    with suppress(ConnectionError):
        while True:
            await response.write(bytes(65_536))
    return response


async def cut_short(received: Received) -> web.StreamResponse:
    response = web.StreamResponse(status=200, headers={"Content-Length": "1000"})
    await response.prepare(received.request)
    await response.write(b"x")
    assert received.request.transport is not None
    received.request.transport.abort()
    return response


async def bomb(received: Received) -> web.StreamResponse:
    return web.Response(status=200, body=b"not gzip at all", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize("answer", [endless, cut_short, bomb])
async def test_once_the_status_is_in_the_rest_of_the_answer_does_not_matter(
    office: Office, receiver: Receiver, answer: object
) -> None:
    receiver.answers["/mail"] = answer  # type: ignore[assignment]
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail"))
    await office.post("msg_1")
    async with sending(office.courier()):
        await receiver.wait("/mail")
    assert await office.left() == []
    assert len(receiver.got) == 1


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "both.pem").write_bytes(certificate.public_bytes(Encoding.PEM) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


async def failing(office: Office, url: str, *, deadline: int = DEADLINE) -> str:
    """The reason for which a try at the address failed and is to be made again."""
    office.serve(Webhook(name="mail", url=url))
    await office.post("msg_1")
    with capture_logs() as logs:
        async with sending(office.courier(deadline=deadline)):
            await until(lambda: bool(logs))
    (job,) = await office.left()
    assert job.attempt == 1
    return str(logs[0]["reason"])


@asynccontextmanager
async def saying(data: bytes, *, close: bool = True, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port that answers anybody with these bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if not close:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 ", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nA" + b"b" * 100_000])
async def test_a_broken_answer_is_tried_again(office: Office, data: bytes) -> None:
    async with saying(data) as port:
        assert "the exchange failed" in await failing(office, f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b"])
async def test_a_try_ends_at_its_deadline_though_bytes_have_come(office: Office, data: bytes) -> None:
    async with saying(data, close=False) as port:
        assert await failing(office, f"http://127.0.0.1:{port}/", deadline=100) == "no answer in time"


async def test_a_host_without_tls_or_a_certificate_is_tried_again(office: Office) -> None:
    async with saying(b"plain text") as port:
        assert "no connection" in await failing(office, f"https://127.0.0.1:{port}/")


async def test_a_certificate_nobody_vouches_for_is_refused(office: Office, tmp_path: Path) -> None:
    async with saying(b"", tls=self_signed(tmp_path)) as port:
        assert await failing(office, f"https://localhost:{port}/") == "the certificate of the host is not valid"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/", "no connection (ConnectionRefusedError)"),
        ("http://nowhere.invalid/", "the name of the host could not be looked up"),
        ("http://127.1/", "the address is not one that can be connected to"),
    ],
)
async def test_where_there_is_no_host_it_is_tried_again(office: Office, url: str, reason: str) -> None:
    assert await failing(office, url) == reason


async def test_a_courier_that_is_stopped_lets_its_tries_end(office: Office, receiver: Receiver) -> None:
    release = receiver.hang("/mail")
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail"))
    await office.post("msg_1")
    task = asyncio.create_task(office.courier().run())
    await receiver.wait("/mail")
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, release.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await office.left() == []


DOOMED = """
import asyncio, sys, time
from handrail.core.webhooks import Webhook
from handrail.outbound.webhooks import Courier
from handrail.store import RedisStore

async def main(redis, url):
    store = await RedisStore.connect(redis)
    hooks = {"mail": Webhook(name="mail", url=url)}
    clock = lambda: int(time.time() * 1000)
    await Courier(store, lambda: hooks, clock=clock, allow_private=True).run()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_courier_leaves_its_call_to_another_with_the_same_id(
    office: Office, receiver: Receiver, valkey: Embedded
) -> None:
    receiver.hang("/mail")
    await office.post("msg_1")
    environ = {**os.environ, "PYTHONPATH": str(Path(handrail.__file__).parents[1])}
    command = (sys.executable, "-c", DOOMED, valkey.url, f"{receiver.url}/mail")
    doomed = await asyncio.create_subprocess_exec(*command, env=environ)
    try:
        await receiver.wait("/mail")
    finally:
        doomed.send_signal(signal.SIGKILL)
        await doomed.wait()
    office.serve(Webhook(name="mail", url=f"{receiver.url}/mail"))
    receiver.answer("/mail", 204)
    assert await office.due(LEASE - 5_000) == []
    office.now = int(time.time() * 1000) + LEASE
    async with sending(office.courier()):
        first, second = await receiver.wait("/mail", 2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "msg_1"
    assert first.body == second.body
    assert await office.left() == []
