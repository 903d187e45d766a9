"""What only this machine can reach answers to this machine's names alone."""

import pytest

from marketprism.observe.host_header import OwnNames


def mean_us(host: str | None, configured: str = "127.0.0.1", bound: str = "127.0.0.1") -> bool:
    """Whether a request with this `Host` does."""
    headers = [(b"accept", b"*/*")]
    if host is not None:
        headers.append((b"Host", host.encode("latin1")))
    return OwnNames(configured, bound).mean_us(headers)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8086", "localhost:1", "LocalHost", "localhost.", "[::1]:80"]
)
def test_our_own_names_are_ours_with_any_port(host: str) -> None:
    """Ports are forwarded; names are written as people like."""
    assert mean_us(host)
    assert mean_us(host, "::1", "::1")


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8086", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("evil.example@127.0.0.1", "127.0.0.1:80:80", "127.0.0.1, evil.example", "[::2]", "::1"),
        *("", ":8086", "127.0.0.1:x", "192.168.0.1", "0.0.0.0", "\xff"),
    ],
)
def test_other_names_are_not(host: str) -> None:
    """Least of all those that only look like ours."""
    assert not mean_us(host)
    assert not mean_us(host, "localhost", "127.0.0.1")


def test_the_name_that_is_configured_is_ours() -> None:
    """Whatever it is, where it leads to this machine alone; and the address that it stands for."""
    assert mean_us("Collector.Internal:8086", "collector.internal", "127.0.0.9")
    assert mean_us("127.0.0.9", "collector.internal", "127.0.0.9")


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "192.168.0.1", "fe80::1%eth0"])
def test_where_others_reach_us_any_name_is_ours(bound: str) -> None:
    """They know us under names of their own."""
    assert mean_us("collector.example", bound, bound)


def test_who_names_nobody_is_no_browser() -> None:
    """HTTP/1.0 has no `Host`; of two, both must be ours."""
    assert mean_us(None)
    both = [(b"host", b"localhost"), (b"host", b"evil.example")]
    assert not OwnNames("localhost", "127.0.0.1").mean_us(both)
