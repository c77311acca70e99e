"""Settings: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from handrail.settings import Settings, SettingsError, is_loopback, table

GUARDED = {
    "HANDRAIL_CLIENT_SECRET": "s" * 32,
    "HANDRAIL_WRITE_KEY": "w",
    "HANDRAIL_ADMIN_KEY": "a",
    "HANDRAIL_ORIGINS": "https://app.example, https://www.example",
}


def test_defaults_serve_on_this_machine_only() -> None:
    settings = Settings.from_environ({})
    assert (settings.host, settings.port, settings.role) == ("127.0.0.1", 8000, "all")
    assert settings.rules == Path("rules")
    assert settings.with_demo
    assert settings.refusals() == []


def test_flags_go_before_the_environment() -> None:
    settings = Settings.from_environ({"HANDRAIL_PORT": "9000", "HANDRAIL_RULES": "there"}, port=9001, rules=None)
    assert settings.port == 9001
    assert settings.rules == Path("there")


def test_an_empty_variable_is_an_unset_one() -> None:
    assert Settings.from_environ({"HANDRAIL_REDIS_URL": " "}).redis_url is None


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"HANDRAIL_PORT": "many", "HANDRAIL_ROLE": "boss", "HANDRAIL_DEMO": "perhaps"})
    assert [line.partition(":")[0] for line in caught.value.lines] == [
        "HANDRAIL_PORT",
        "HANDRAIL_ROLE",
        "HANDRAIL_DEMO",
    ]


@pytest.mark.parametrize("origin", ["app.example", "*", "https://*.example", "https://app.example/path", "https://"])
def test_what_is_no_origin_would_never_match_and_is_refused(origin: str) -> None:
    with pytest.raises(SettingsError, match="HANDRAIL_ORIGINS: ") as caught:
        Settings.from_environ({"HANDRAIL_ORIGINS": f"https://app.example, {origin}"})
    assert f"'{origin}' is no origin" in str(caught.value)


def test_an_origin_is_written_as_browsers_send_it() -> None:
    with pytest.raises(SettingsError, match="begins with xn--"):
        Settings.from_environ({"HANDRAIL_ORIGINS": "https://bücher.example"})


@pytest.mark.parametrize("text", ["0s", "an hour", "3600"])
def test_a_duration_is_written_as_in_rules(text: str) -> None:
    with pytest.raises(SettingsError, match="HANDRAIL_TOKEN_MAX_AGE: "):
        Settings.from_environ({"HANDRAIL_TOKEN_MAX_AGE": text})


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("HANDRAIL_DRAIN", "10", "'10' is not a duration"),
        ("HANDRAIL_PROXIES", "10.0.0.0/8, proxy.example", "'proxy.example' is no address or network"),
        ("HANDRAIL_PROXIES", "*", "'*' is no address or network"),
        (
            "HANDRAIL_PROXIES",
            "10.0.0.7/8",
            "'10.0.0.7/8' is an address with a mask: write 10.0.0.0/8, or the address alone",
        ),
        ("HANDRAIL_MESSAGE_RATE", "-1", "'-1' is less than 0"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(name: str, value: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({name: value})
    assert str(caught.value).startswith(f"{name}: {why}")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("HANDRAIL_PORT", "many", "'many' is no whole number"),
        ("HANDRAIL_PORT", "80.5", "'80.5' is no whole number"),
        ("HANDRAIL_PORT", "70000", "'70000' is more than 65535"),
        ("HANDRAIL_WORKERS", "0", "'0' is less than 1"),
        ("HANDRAIL_ROLE", "workers", "'workers' is none of all, web, worker; did you mean 'worker'?"),
        ("HANDRAIL_ACK", "always", "'always' is none of accepted, replicated, durable"),
        ("HANDRAIL_DEMO", "perhaps", "'perhaps' is neither on nor off"),
        ("HANDRAIL_COUNTRY_HEADER", "CF Country", "'CF Country' has characters in it other than letters"),
        ("HANDRAIL_CLIENT_SECRET", "hunter2", "the value is shorter than 32 characters"),
    ],
)
def test_a_bad_value_is_told_in_plain_words_and_no_secret_is(name: str, value: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({name: value})
    assert str(caught.value).startswith(f"{name}: {why}")
    assert "hunter2" not in str(caught.value)


def test_choices_may_be_written_in_capitals() -> None:
    assert Settings.from_environ({"HANDRAIL_LOG_LEVEL": "WARNING"}).log_level == "warning"


def test_a_child_process_keeps_the_same_limits() -> None:
    chosen = {"HANDRAIL_DRAIN": "1m", "HANDRAIL_PROXIES": "10.0.0.0/8,::1", "HANDRAIL_MESSAGE_RATE": "0"}
    settings = Settings.from_environ(chosen)
    assert settings.drain_ms == 60_000
    assert Settings.from_environ(settings.to_environ()) == settings


def test_off_loopback_says_exactly_what_is_missing() -> None:
    partly = {key: value for key, value in GUARDED.items() if key in ("HANDRAIL_WRITE_KEY", "HANDRAIL_ORIGINS")}
    (line,) = Settings.from_environ(partly, host="0.0.0.0").refusals()
    assert "HANDRAIL_CLIENT_SECRET or HANDRAIL_CLIENT_PUBLIC_KEY, HANDRAIL_ADMIN_KEY" in line
    assert "HANDRAIL_WRITE_KEY" not in line


def test_off_loopback_with_every_guard_is_served_without_the_demo() -> None:
    settings = Settings.from_environ(GUARDED, host="0.0.0.0")
    assert settings.refusals() == []
    assert settings.origins == ("https://app.example", "https://www.example")
    assert not settings.with_demo


def test_a_worker_needs_a_store_to_share() -> None:
    assert "HANDRAIL_REDIS_URL" in Settings.from_environ({}, role="worker").refusals()[0]
    assert Settings.from_environ({}, role="worker", redis_url="redis://127.0.0.1").refusals() == []


def test_a_child_process_reads_the_same_settings() -> None:
    settings = Settings.from_environ(GUARDED, host="::1", workers=3, demo=False, webhook_allow_private=True)
    assert Settings.from_environ(settings.to_environ()) == settings


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("0x7f000001", False),
    ],
)
def test_loopback(host: str, inside: bool) -> None:
    assert is_loopback(host) is inside


def test_secrets_do_not_show() -> None:
    assert "s" * 32 not in repr(Settings.from_environ(GUARDED))


def test_the_table_lists_every_setting_with_a_meaning() -> None:
    rows = table()
    assert {"HANDRAIL_REDIS_URL", "HANDRAIL_DATA_DIR", "HANDRAIL_RULES"} <= {name for name, _, _ in rows}
    assert all(meaning for _, _, meaning in rows)
