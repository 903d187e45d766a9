"""What is found out about a host is on the board, and in the log once a change."""

from structlog.testing import capture_logs

from marketprism.feeds.budget import SECOND, Budget
from marketprism.feeds.hosts import Hosts
from marketprism.settings import Manners
from marketprism.status import Board

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
    asking, dialling = hosts.share(HOST, Budget(100)), hosts.dials(HOST, Manners())
    other = hosts.share("other", Budget(100))
    hosts.stop(HOST, 30.0, 5)
    until = 5 + 30 * SECOND
    assert asking.blocked_until == dialling.blocked_until == until
    assert hosts.share(HOST, Budget(100)).blocked_until == until
    assert board.hosts[HOST].blocked_until == until
    assert other.wait(1, 5) == 0
