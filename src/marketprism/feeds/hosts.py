"""What is known of the hosts that are called: reachable, spared, how often they may be dialled.

News is told once, in words that help.
"""

from typing import Literal

import structlog

from marketprism.feeds.budget import Budget
from marketprism.settings import BreakerConfig, Manners
from marketprism.status import Board, HostRow, lasted
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
        self._budgets: dict[str, list[Budget]] = {}

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
        if host not in self._dials:
            budget = Budget(manners.connects_per_window, manners.connect_window)
            self._dials[host] = self.share(host, budget)
        return self._dials[host]

    def share(self, host: str, budget: Budget) -> Budget:
        """This one, too, is spent at that host: it is stopped with the others."""
        others = self._budgets.setdefault(host, [])
        if others:
            budget.blocked_until = max(other.blocked_until for other in others)
        others.append(budget)
        return budget

    def stop(self, host: str, seconds: float, now: int) -> None:
        """The host said to stop: nobody calls it for so long, in whatever way."""
        budgets = self._budgets.get(host, ())
        for budget in budgets:
            budget.block(seconds, now)
        until = max((budget.blocked_until for budget in budgets), default=0)
        self.row(host).blocked_until = until

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
