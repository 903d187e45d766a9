"""Which hosts can be reached, told once a change in words that help."""

import structlog

from marketprism.status import Board, HostRow

log = structlog.get_logger()

TRY = "check the network, DNS and firewall, or set HTTPS_PROXY"


class Hosts:
    """What this process has found out about the hosts that it calls."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def row(self, host: str) -> HostRow:
        """The host's row on the board."""
        return self._board.hosts.setdefault(host, HostRow(host))

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
