"""What is found out about a host is on the board, and in the log once a change."""

from structlog.testing import capture_logs

from marketprism.feeds.hosts import Hosts
from marketprism.status import Board

HOST = "api.binance.com"


def test_an_outage_is_told_once_and_its_end_once() -> None:
    """However many callers find out, whatever reason each has."""
    hosts = Hosts(Board())
    with capture_logs() as logs:
        hosts.reached(HOST)
        hosts.failed(HOST, "its name cannot be resolved")
        hosts.failed(HOST, "no connection in time")
        hosts.reached(HOST)
        hosts.reached(HOST)
    assert [line["event"] for line in logs] == ["host.unreachable", "host.reachable"]
    assert logs[0]["host"] == HOST
    assert "HTTPS_PROXY" in logs[0]["hint"]


def test_a_refusal_is_told_once_a_reason() -> None:
    """It answers: it is reachable, and will not have us."""
    board = Board()
    hosts = Hosts(board)
    with capture_logs() as logs:
        hosts.refused(HOST, "status 451")
        hosts.refused(HOST, "status 451")
        hosts.refused(HOST, "status 403")
    assert [line["reason"] for line in logs] == ["status 451", "status 403"]
    assert (board.hosts[HOST].reachable, board.hosts[HOST].reason) == (True, "status 403")


def test_the_row_has_the_latest_words() -> None:
    """Each host has its own."""
    board = Board()
    hosts = Hosts(board)
    hosts.failed(HOST, "first")
    hosts.failed(HOST, "second")
    hosts.reached("other")
    assert (board.hosts[HOST].reachable, board.hosts[HOST].reason) == (False, "second")
    hosts.reached(HOST)
    assert (board.hosts[HOST].reachable, board.hosts[HOST].reason) == (True, None)
    assert board.hosts["other"].reason is None
