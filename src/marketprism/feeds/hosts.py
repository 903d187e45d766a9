"""What is known of the hosts that are called: reachable, spared, how often they may be dialled.

News is told once, in words that help.
"""

from typing import Literal

import structlog

from marketprism.feeds.budget import Budget
from marketprism.settings import BreakerConfig, Manners
from marketprism.status import Board, HostRow
from marketprism.supervise import CircuitBreaker

log = structlog.get_logger()

Kind = Literal["rest", "websocket"]

TRY = "check the network, DNS and firewall, or set HTTPS_PROXY"


class Hosts:
    """What this process has found out about the hosts that it calls."""

    def __init__(self, board: Board, settings: BreakerConfig | None = None) -> None:
        self._board = board
        self._settings = settings or BreakerConfig()
        self._dials: dict[str, Budget] = {}

    def row(self, host: str) -> HostRow:
        """The host's row on the board."""
        return self._board.hosts.setdefault(host, HostRow(host))

    def breaker(self, kind: Kind, host: str) -> CircuitBreaker:
        """The breaker of one side of a host."""
        settings = self._settings
        return self._board.breakers.setdefault(
            (kind, host), CircuitBreaker(settings.failure_threshold, settings.recovery_timeout)
        )

    def dials(self, host: str, manners: Manners) -> Budget:
        """How often a host may be dialled, by all who dial it together."""
        return self._dials.setdefault(
            host, Budget(manners.connects_per_window, manners.connect_window)
        )

    def reached(self, host: str) -> None:
        """It answered."""
        row = self.row(host)
        if row.reachable is False:
            log.info("host.reachable", host=host)
        row.reachable, row.reason = True, None

    def failed(self, host: str, reason: str) -> None:
        """It cannot be reached; said in the log when that is news."""
        row = self.row(host)
        if row.reachable is not False:
            log.warning("host.unreachable", host=host, reason=reason, hint=TRY)
        row.reachable, row.reason = False, reason

    def refused(self, host: str, reason: str) -> None:
        """It answers, and will not have us; said in the log when that is news."""
        row = self.row(host)
        if row.reason != reason:
            log.warning("host.refused", host=host, reason=reason)
        row.reachable, row.reason = True, reason
