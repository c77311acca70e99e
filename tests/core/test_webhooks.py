from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.core.source import read, validate
from handrail.core.webhooks import Flaw, Webhook, WebhookShape, compile_webhook, expand, read_secret, url_fault

SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
ENVIRON = {"URL": "https://mail.example/hooks", "SECRET": SECRET, "TOKEN": "t0k3n", "EMPTY": ""}


def compiled(environ: Mapping[str, str] = ENVIRON, **keys: Any) -> tuple[Webhook, tuple[Flaw, ...]]:
    whole = {"webhook": "reengage", "url": "${URL}", "secret": "${SECRET}", **keys}
    return compile_webhook(WebhookShape.model_validate(whole), environ)


def test_a_whole_webhook() -> None:
    body = {"to": "{{ user.traits.email }}"}
    headers = {"Authorization": "Bearer ${TOKEN}"}
    webhook, flaws = compiled(headers=headers, channel="email", body=body, description="Come back")
    assert flaws == ()
    assert webhook == Webhook(
        name="reengage",
        url="https://mail.example/hooks",
        key=bytes(range(32)),
        headers={"Authorization": "Bearer t0k3n"},
        channel="email",
        body=body,
        description="Come back",
    )


def test_nothing_secret_shows_when_printed() -> None:
    shown = repr(compiled(headers={"Authorization": "Bearer ${TOKEN}"})[0])
    assert "t0k3n" not in shown
    assert "mail.example" not in shown
    assert "\\x01" not in shown


def test_an_address_is_all_it_takes() -> None:
    webhook, flaws = compile_webhook(WebhookShape(webhook="bare", url="http://localhost:9000/x"), {})
    assert (webhook.key, webhook.headers, webhook.channel, webhook.missing) == (None, {}, None, ())
    assert [(flaw.at, flaw.severity) for flaw in flaws] == [(("webhook",), "warning")]
    assert "not signed" in flaws[0].message


@pytest.mark.parametrize("environ", [{}, {"URL": "", "SECRET": ""}])
def test_an_unset_variable_parks_the_webhook_and_is_said_once(environ: dict[str, str]) -> None:
    webhook, flaws = compiled(environ, headers={"X": "${URL}"})
    assert webhook.missing == ("SECRET", "URL")
    assert (webhook.url, webhook.key) == ("", None)
    assert [(flaw.at, flaw.severity) for flaw in flaws] == [(("url",), "warning"), (("secret",), "warning")]


@pytest.mark.parametrize(
    ("keys", "at", "message"),
    [
        ({"url": "ftp://mail.example"}, ("url",), "must begin with https://"),
        ({"url": "mail.example/hooks"}, ("url",), "must begin with https://"),
        ({"url": "https://"}, ("url",), "needs a host"),
        ({"url": "https://a:99999/"}, ("url",), "malformed"),
        ({"url": "https://[::1/"}, ("url",), "malformed"),
        ({"url": "https://a/\r\nHost: b"}, ("url",), "control character"),
        ({"url": "https://a/${not-a-name}"}, ("url",), "name of an environment variable"),
        ({"url": "https://a/${"}, ("url",), "name of an environment variable"),
        ({"secret": "whsec_not*base64"}, ("secret",), "must be base64"),
        ({"secret": "whsec_"}, ("secret",), "must be base64"),
        ({"secret": ""}, ("secret",), "empty"),
        ({"headers": {"Webhook-Id": "x"}}, ("headers", "Webhook-Id"), "set by Handrail itself"),
        ({"headers": {"Content-Length": "3"}}, ("headers", "Content-Length"), "set by Handrail itself"),
        ({"headers": {"no colon:": "x"}}, ("headers", "no colon:"), "not a header name"),
        ({"headers": {"X-Two": "a\nX-Three: b"}}, ("headers", "X-Two"), "on one line"),
        ({"body": {"to": ["${TOKEN}"]}}, ("body", "to", 0), "'${TOKEN}' has no meaning here"),
    ],
)
def test_faults_have_a_place(keys: dict[str, Any], at: tuple[str | int, ...], message: str) -> None:
    _, flaws = compiled(**keys)
    assert [(flaw.at, flaw.severity) for flaw in flaws] == [(at, "error")]
    assert message in flaws[0].message


@pytest.mark.parametrize(
    "environ", [{"URL": "hunter2", "SECRET": SECRET}, {"URL": "https://a", "SECRET": "whsec_hunter2*"}]
)
def test_a_value_of_the_environment_is_never_quoted(environ: dict[str, str]) -> None:
    _, flaws = compiled(environ)
    assert len(flaws) == 1
    assert "hunter2" not in flaws[0].message


@pytest.mark.parametrize("secret", [SECRET, SECRET.rstrip("=")])
def test_standard_secrets_are_base64_padded_or_not(secret: str) -> None:
    assert read_secret(secret) == (bytes(range(32)), "", "")


def test_other_secrets_are_taken_as_text() -> None:
    text = "correct horse battery staple"
    assert read_secret(text) == (text.encode(), "", "")


def test_a_short_secret_is_a_warning() -> None:
    key, message, severity = read_secret("tiny")
    assert key == b"tiny"
    assert severity == "warning"
    assert "at least 24 bytes" in message


def test_blanks_around_a_value_of_the_environment_are_dropped() -> None:
    webhook, flaws = compiled({"URL": " https://a/b\n", "SECRET": SECRET + "\n"})
    assert (webhook.url, webhook.key, flaws) == ("https://a/b", bytes(range(32)), ())


def test_expand() -> None:
    assert expand("a${TOKEN}b${NONE}c$d{e}", ENVIRON) == ("at0k3nbc$d{e}", {"NONE"})


def test_what_a_variable_holds_is_not_expanded_again() -> None:
    assert expand("${A}", {"A": "${B}", "B": "no"}) == ("${B}", set())


@given(st.text())
def test_any_text_is_survived(text: str) -> None:
    expand(text, {})
    url_fault(text)
    read_secret(text)
    compiled(url=text, secret=text, headers={text: text}, body={text: text})


def test_unknown_keys_and_channels_are_refused_with_a_place() -> None:
    text = "webhook: a\nurl: https://a\nchanel: email\n---\nwebhook: b\nurl: https://b\nchannel: sms\n"
    documents, problems = read("rules/a.yaml", text)
    assert problems == []
    found = [problem for document in documents for problem in validate(WebhookShape, document)[1]]
    assert [problem.line for problem in found] == [3, 7]
    assert "did you mean 'channel'" in found[0].message
