"""What is found out about a host is on the board, and in the log once a change."""

import pytest
from structlog.testing import capture_logs

from marketprism.board.board import Board
from marketprism.clock import SECOND
from marketprism.feeds.hosts import Hosts, host_of
from marketprism.feeds.http_answers import Guess, HttpAnswer, Meaning

HOST = "api.binance.com"


def test_an_outage_is_told_once_and_its_end_once() -> None:
    """However many callers find out, whatever reason each has."""
    hosts = Hosts(Board())
    with capture_logs() as logs:
        hosts.reached(HOST)
        hosts.failed(HOST, "its name cannot be resolved", 0)
        hosts.failed(HOST, "no connection in time", 0)
        hosts.reached(HOST)
        hosts.reached(HOST)
    assert [line["event"] for line in logs] == ["host.unreachable", "host.reachable"]
    assert logs[0]["host"] == HOST
    assert "HTTPS_PROXY" in logs[0]["hint"]


def test_the_end_of_an_outage_says_how_long_it_was() -> None:
    """From its first failure; the next outage counts anew."""
    hosts = Hosts(Board())
    with capture_logs() as logs:
        for began in (5, 100):
            hosts.failed(HOST, "no connection in time", began * SECOND)
            hosts.failed(HOST, "no connection in time", (began + 7) * SECOND)
            hosts.reached(HOST, (began + 10) * SECOND)
    back = [line["after"] for line in logs if line["event"] == "host.reachable"]
    assert back == [10.0, 10.0]


def test_a_refusal_is_told_once_a_reason() -> None:
    """It answers: it is reachable, and will not have us."""
    board = Board()
    hosts = Hosts(board)
    with capture_logs() as logs:
        hosts.refused(HOST, "status 451", 0)
        hosts.refused(HOST, "status 451", 0)
        hosts.refused(HOST, "status 403", 0)
    assert [line["reason"] for line in logs] == ["status 451", "status 403"]
    assert (board.hosts[HOST].reachable, board.hosts[HOST].reason) == (True, "status 403")


def test_the_row_has_the_latest_words() -> None:
    """Each host has its own."""
    board = Board()
    hosts = Hosts(board)
    hosts.failed(HOST, "first", 0)
    hosts.failed(HOST, "second", 0)
    hosts.reached("other")
    assert (board.hosts[HOST].reachable, board.hosts[HOST].reason) == (False, "second")
    hosts.reached(HOST)
    assert (board.hosts[HOST].reachable, board.hosts[HOST].reason) == (True, None)
    assert board.hosts["other"].reason is None


def test_a_host_that_says_stop_is_stopped_for_every_caller() -> None:
    """Those who dial and those who ask, and who comes later; other hosts are not concerned."""
    board = Board()
    hosts = Hosts(board)
    before = hosts.stop_of(HOST)
    assert hosts.stop(HOST, 30.0, Guess(1, 1), 5) == 30.0
    until = 5 + 30 * SECOND
    assert before is hosts.stop_of(HOST)
    assert before.wait(5) == 30 * SECOND
    assert board.hosts[HOST].blocked_until == until
    assert hosts.stop_of("other").wait(5) == 0


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://www.deribit.com/api/v2", "www.deribit.com"),
        ("wss://www.deribit.com/ws/api/v2", "www.deribit.com"),
        ("wss://www.deribit.com:443/ws/api/v2", "www.deribit.com"),
        ("https://WWW.Deribit.com", "www.deribit.com"),
        ("ws://somebody:secret@localhost:80/", "localhost"),
        ("wss://localhost:80/", "localhost:80"),
        ("http://127.0.0.1:8080/x", "127.0.0.1:8080"),
        ("wss://[::1]:443/", "[::1]"),
    ],
)
def test_what_answers_under_one_name_is_one_host(url: str, host: str) -> None:
    """However its port is written: a stop that comes by websocket holds for requests too."""
    assert host_of(url) == host


def test_what_an_answer_means_is_read_as_the_venue_says_of_that_url() -> None:
    """Several may be reached through one host; what nobody declared means what HTTP says."""
    hosts = Hosts(Board())
    hosts.learn("http://gate/a/", lambda _answer, wall: Meaning(f"a at {wall}"))
    hosts.learn("http://gate/a/b", lambda _answer, _wall: Meaning("b"))
    answer = HttpAnswer(503, {})
    assert hosts.meaning("http://gate/a/x", answer, 7).error == "a at 7"
    assert hosts.meaning("http://gate/a/b/x", answer, 7).error == "b"
    assert hosts.meaning("http://gate/c", answer, 7).error == "status 503"
