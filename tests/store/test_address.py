"""URLs of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from certificates import certify
from handrail.store import StoreUnusable
from handrail.store.address import locate


@pytest.mark.parametrize(
    ("url", "kind", "shown", "service"),
    [
        ("redis://cache", "server", ["redis://cache:6379/0"], ""),
        ("redis://u:p%2F@cache:7000/3", "server", ["redis://cache:7000/3"], ""),
        ("rediss://cache", "server", ["redis://cache:6379/0"], ""),
        ("unix:///run/redis.sock?db=2", "server", ["unix:///run/redis.sock"], ""),
        ("redis+cluster://a:1,b:2,[::1]:3", "cluster", ["redis://a:1/0", "redis://b:2/0", "redis://::1:3/0"], ""),
        ("redis+cluster://u:p@a,b/0", "cluster", ["redis://a:6379/0", "redis://b:6379/0"], ""),
        ("REDISS+CLUSTER://a:1/", "cluster", ["redis://a:1/0"], ""),
        ("redis+sentinel://a:1,b:2/hand", "sentinel", ["redis://a:1/0", "redis://b:2/0"], "hand"),
        ("redis+sentinel://u:p@a:1/hand/4", "sentinel", ["redis://a:1/4"], "hand"),
    ],
)
def test_what_a_url_names(url: str, kind: str, shown: list[str], service: str) -> None:
    site = locate(url)
    assert (site.kind, [address.shown for address in site.addresses], site.service) == (kind, shown, service)


def test_every_server_of_a_url_is_entered_the_same_way(tmp_path: Path) -> None:
    authorities = certify(tmp_path)
    first, second = locate(f"rediss+cluster://ana:s3cret%2F@a:1,b:2/?ssl_ca_certs={authorities}").addresses
    assert first.greeting() == second.greeting() == [("HELLO", 3, "AUTH", "ana", "s3cret/")]
    assert first.has_tls
    other = second.at("c", 3)
    assert (other.shown, other.greeting(), other.has_tls, other.authorities) == (
        "redis://c:3/0",
        second.greeting(),
        True,
        str(authorities),
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://localhost", r"URL must begin with one of redis://, .*redis\+sentinel://"),
        ("redis+clutser://a:1", r"did you mean redis\+cluster://\?"),
        ("", "URL must begin"),
        ("cache:6379", r"; did you mean redis://cache:6379\?"),
        ("redis+cluster://", r"names no server: write redis\+cluster://host:port,host:port"),
        ("redis+cluster://a:1,,b:2", "names no server"),
        ("redis+cluster://a:x", "a port is a number from 1 to 65535"),
        ("redis://cache:0/0", "a port is a number"),
        ("redis://cache/abc", "ends in '/abc', which is no number of a database"),
        ("redis://cache/0/1", "ends in '/0/1'"),
        ("redis://cache?db=abc", "db=abc, which is no number"),
        ("redis://cache?foo=1", "an option 'foo', which is none; known: db, ssl_ca_certs"),
        ("rediss://cache?ssl_ca_cert=x", r"which is none; did you mean 'ssl_ca_certs'\?"),
        ("rediss+sentinel://a:1/hand?foo", "an option 'foo'"),
        ("redis://cache?ssl_cert_reqs=none", "TLS only: begin it with rediss"),
        ("rediss://cache?ssl_cert_reqs=nil", "ssl_cert_reqs=nil: it is required"),
        ("rediss://cache?ssl_ca_certs=/nowhere/ca.pem", "/nowhere/ca.pem, which cannot be read: No such file"),
        ("rediss://cache?ssl_ca_certs=/dev/null", "/dev/null, which has no certificates"),
        ("unix://", "names no socket"),
        ("redis+cluster://a:1/3", "database 3, but a cluster has database 0 only"),
        ("redis+sentinel://a:1", "must end in the name that the Sentinels watch"),
        ("redis+sentinel://a:1/hand/x", "must end in the name"),
        ("redis+sentinel://a:1/hand/1/2", "must end in the name"),
    ],
)
def test_urls_that_cannot_be_meant(url: str, why: str) -> None:
    with pytest.raises(StoreUnusable, match=why):
        locate(url)


@pytest.mark.parametrize("password", ["sec/ret", "sec#ret", "1/2", "sec?ret", "1?ret", "1#ret"])
def test_a_password_that_is_not_escaped_is_not_repeated(password: str) -> None:
    with pytest.raises(StoreUnusable, match="in user and password") as caught:
        locate(f"redis://ana:{password}@cache:6379/0")
    assert "ret" not in str(caught.value)
