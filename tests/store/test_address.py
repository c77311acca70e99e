"""URLs of the store."""

from __future__ import annotations

import pytest

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


def test_every_server_of_a_url_is_entered_the_same_way() -> None:
    first, second = locate("rediss+cluster://ana:s3cret%2F@a:1,b:2/?ssl_ca_certs=/ca.pem").addresses
    assert first.greeting() == second.greeting() == [("HELLO", 3, "AUTH", "ana", "s3cret/")]
    assert first.has_tls
    other = second.at("c", 3)
    assert (other.shown, other.greeting(), other.has_tls, other.authorities) == (
        "redis://c:3/0",
        second.greeting(),
        True,
        "/ca.pem",
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://localhost", r"URL must begin with one of redis://, .*redis\+sentinel://"),
        ("redis+clutser://a:1", r"did you mean redis\+cluster://\?"),
        ("", "URL must begin"),
        ("redis+cluster://", r"names no server: write redis\+cluster://host:port,host:port"),
        ("redis+cluster://a:1,,b:2", "names no server"),
        ("redis+cluster://a:x", "URL is not one Handrail knows"),
        ("redis+cluster://a:1/3", "database 3, but a cluster has database 0 only"),
        ("redis+sentinel://a:1", "must end in the name that the Sentinels watch"),
        ("redis+sentinel://a:1/hand/x", "must end in the name"),
        ("redis+sentinel://a:1/hand/1/2", "must end in the name"),
    ],
)
def test_urls_that_name_nothing(url: str, why: str) -> None:
    with pytest.raises(StoreUnusable, match=why):
        locate(url)
