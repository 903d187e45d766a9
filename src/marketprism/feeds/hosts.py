"""What is known of the hosts that are called: reachable, spared, how often they may be dialled.

News is told once, in words that help.
"""

from typing import Literal
from urllib.parse import urlsplit

import structlog

from marketprism.board.board import Board
from marketprism.board.rows import HostRow, lasted
from marketprism.feeds.budget import Budget
from marketprism.feeds.http_answers import Guess, HttpAnswer, Interpret, Meaning, usual
from marketprism.feeds.stops import Stop
from marketprism.settings.exchanges import Limits
from marketprism.settings.supervision import BreakerConfig
from marketprism.supervise import CircuitBreaker

log = structlog.get_logger()

Kind = Literal["rest", "websocket"]

TRY = "check the network, DNS and firewall, or set HTTPS_PROXY"
PORTS = {"http": ":80", "ws": ":80", "https": ":443", "wss": ":443"}
"""Those that a URL need not name."""


def host_of(url: str) -> str:
    """The host that a URL calls, with its port where that is not the scheme's own: what answers
    requests and handshakes under one name is one host.
    """
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2].lower()
    return netloc.removesuffix(PORTS.get(parts.scheme, ""))


class Hosts:
    """What this process has found out about the hosts that it calls."""

    def __init__(self, board: Board, settings: BreakerConfig | None = None) -> None:
        self._board = board
        self._settings = settings or BreakerConfig()
        self._dials: dict[str, Budget] = {}
        self._stops: dict[str, Stop] = {}
        self._words: dict[str, Interpret] = {}

    def row(self, host: str) -> HostRow:
        """The host's row on the board."""
        return self._board.hosts.setdefault(host, HostRow(host))

    def breaker(self, kind: Kind, host: str) -> CircuitBreaker:
        """The breaker of one side of a host."""
        settings = self._settings
        return self._board.breakers.setdefault(
            (kind, host), CircuitBreaker(settings.failure_threshold, settings.recovery_timeout)
        )

    def dials(self, host: str, limits: Limits) -> Budget:
        """How often a host may be dialled, by all who dial it together."""
        if host not in self._dials:
            self._dials[host] = Budget(limits.connects_per_window, limits.connect_window)
        return self._dials[host]

    def learn(self, root: str, interpret: Interpret) -> None:
        """How what answers under that URL puts it."""
        self._words[root.rstrip("/")] = interpret

    def meaning(self, url: str, answer: HttpAnswer, wall: int) -> Meaning:
        """What an answer to a request for that URL means."""
        roots = [root for root in self._words if url.startswith(root)]
        return (self._words[max(roots, key=len)] if roots else usual)(answer, wall)

    def stop_of(self, host: str) -> Stop:
        """Whether a host may be called, by its own word: in whatever way, by whomever."""
        return self._stops.setdefault(host, Stop())

    def stop(self, host: str, seconds: float | None, guess: Guess, now: int) -> float:
        """The host said to stop: nobody calls it for so long. The answer is for how long, now."""
        stop = self.stop_of(host)
        left = stop.told(seconds, guess, now)
        self.row(host).blocked_until = stop.until
        return left

    def reached(self, host: str, now: int | None = None) -> None:
        """It answered."""
        row = self.row(host)
        if row.reachable is False:
            log.info("host.reachable", host=host, after=lasted(row.unreachable_since, now))
        row.reachable, row.reason, row.unreachable_since = True, None, None

    def failed(self, host: str, reason: str, now: int) -> None:
        """It cannot be reached; said in the log when that is news."""
        row = self.row(host)
        if row.reachable is not False:
            log.warning("host.unreachable", host=host, reason=reason, hint=TRY)
            row.unreachable_since = now
        row.reachable, row.reason, row.troubled_at = False, reason, now

    def refused(self, host: str, reason: str, now: int) -> None:
        """It answers, and will not have us; said in the log when that is news."""
        row = self.row(host)
        if row.reason != reason:
            log.warning("host.refused", host=host, reason=reason)
        row.reachable, row.reason, row.troubled_at = True, reason, now
        row.unreachable_since = None
