"""Whether a host may be dialled by websocket, and what an attempt found out for all who call it."""

from collections.abc import Callable

import trio

from marketprism.board.rows import ConnectionRow
from marketprism.clock import SECOND, Timestamp
from marketprism.errors import Lost, MarketPrismError, RateLimited, Refused, Transient
from marketprism.feeds.hosts import Hosts, host_of
from marketprism.feeds.http_answers import Guess, HttpAnswer, Meaning
from marketprism.settings.exchanges import Limits

BAN = Guess(30.0, 30.0)
"""How long nobody calls a host that says on a websocket, or to its handshake, that we ask too much,
and not for how long: not so long that a single such answer keeps anything from being live again
within a minute.
"""


class HostAccess:
    """One connection's access to its host, beside others that call the same."""

    def __init__(
        self,
        url: str,
        row: ConnectionRow,
        limits: Limits,
        hosts: Hosts,
        now: Callable[[], Timestamp],
    ) -> None:
        self.host = host_of(url)
        self._url = url
        self._row = row
        self._limits = limits
        self._hosts = hosts
        self._now = now

    async def admitted(self, *, is_next: bool) -> None:
        """Wait for our turn to dial. `is_next`: the streams have another connection, which this
        one is to take over from. Raises Lost while the host is spared.
        """
        hosts, now = self._hosts, self._now
        breaker = hosts.breaker("websocket", self.host)
        if is_next and breaker.opened_at is not None:
            # The one call that finds out whether it is back belongs to those that have no other.
            raise Lost(f"{self.host} is left alone after {breaker.failures} failures")
        if spared := breaker.admit(now().monotonic):
            words = f"{self.host} failed {breaker.failures} times in a row and is left alone"
            raise Lost(words, retry_after=spared / SECOND)
        dials, stop = hosts.dials(self.host, self._limits), hosts.stop_of(self.host)
        while wait := dials.wait(1, now().monotonic) or stop.admit(self, now().monotonic):
            if stop.in_force:
                self._row.state = "waiting"
            if is_next and wait > self._limits.connect_timeout * SECOND:
                # Others may take their turn meanwhile.
                raise Lost(f"{self.host} may not be dialled yet", retry_after=wait / SECOND)
            await trio.sleep(wait / SECOND)
        self._row.state = "dialling"
        dials.spend(1, now().monotonic)

    def still_welcome(self) -> None:
        """Dialling takes time, in which others may have been told to stop. Raises Lost."""
        left = self._hosts.stop_of(self.host).until - self._now().monotonic
        if left > 0:
            raise Lost(f"{self.host} said stop meanwhile", retry_after=left / SECOND)

    def meaning(self, answer: HttpAnswer) -> Meaning:
        """What an answer to the handshake means that is none of a websocket."""
        return self._hosts.meaning(self._url, answer, self._now().wall)

    def opened(self, now: Timestamp) -> None:
        """The connection stands."""
        self._hosts.reached(self.host, now.monotonic)
        self._hosts.stop_of(self.host).passed(self)
        self._hosts.breaker("websocket", self.host).succeeded()

    def lost(self, error: Transient, *, stood: bool, is_next: bool) -> None:
        """The attempt is over; `stood`: it was one that stood."""
        hosts, now = self._hosts, self._now().monotonic
        if isinstance(error, RateLimited):
            hosts.stop(self.host, error.retry_after, BAN, now)
            hosts.refused(self.host, self._reason(error), now)
        elif not stood and now >= hosts.stop_of(self.host).until:
            if not is_next:
                # Else those that lose their only connection would be kept waiting for it.
                hosts.breaker("websocket", self.host).failed(now)
            hosts.failed(self.host, self._reason(error), now)

    def refused(self, error: Refused) -> None:
        """The attempt is over, and is not to be repeated soon."""
        self._hosts.refused(self.host, self._reason(error), self._now().monotonic)

    def leave(self) -> None:
        """Nobody waits any more."""
        self._hosts.stop_of(self.host).left(self)

    def _reason(self, error: MarketPrismError) -> str:
        """The error's words, without the host's name before them."""
        return str(error).removeprefix(self.host).lstrip(": ")
