"""REST over httpx: one client, a weight budget a host, `Retry-After` obeyed by all callers."""

import heapq
import ssl
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Self
from urllib.parse import urlsplit

import attrs
import httpcore
import httpx
import trio
from httpcore._backends.trio import TrioStream

from marketprism.errors import Lost, RateLimited, Refused, Transient
from marketprism.feeds.budget import SECOND, Budget
from marketprism.feeds.dialing import FOREIGN, connect, words
from marketprism.feeds.hosts import Hosts
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.venue import Fetch, Fetched, FetchFailed, Moment, Priority, Send
from marketprism.status import HostRow

ANSWER_WITHIN = 10.0
"""Seconds for an answer, from its grant."""
MAX_BODY_BYTES = 64 * 2**20
BAN_SECONDS = {429: 10.0, 418: 120.0}
"""How long to stop where the host says so without `Retry-After`."""
LANES = 8
"""Requests to one host under way at a time: those that a ban comes too late for."""
USED_WEIGHT = "X-MBX-USED-WEIGHT-1M"

Say = Callable[[Send], Awaitable[None]]
"""Sends on the websocket, and returns when it is sent."""


@attrs.define(eq=False)
class _Gate:
    """Who may ask a host next: by priority, then in order, when the budget has room."""

    budget: Budget
    row: HostRow
    client: httpx.AsyncClient
    lanes: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(LANES))
    waiting: list[tuple[int, int]] = attrs.field(factory=list)
    tickets: "count[int]" = attrs.field(factory=count)
    changed: trio.Event = attrs.field(factory=trio.Event)

    def wake(self) -> None:
        """Something changed: let the waiting look again."""
        self.changed.set()
        self.changed = trio.Event()

    async def enter(self, weight: int, priority: int, now: Callable[[], Moment]) -> None:
        ticket = (priority, next(self.tickets))
        # What is spent is gone: half of it stays with those who cannot wait.
        spared = self.budget.limit // 2 if priority >= Priority.AUDIT else 0
        heapq.heappush(self.waiting, ticket)
        self.row.waiting = len(self.waiting)
        try:
            while True:
                first = self.waiting[0] == ticket
                wait = self.budget.wait(weight + spared, now().monotonic) if first else None
                if wait == 0:
                    self.budget.spend(weight, now().monotonic)
                    self.row.used_weight = self.budget.used
                    return
                with trio.move_on_after(float("inf") if wait is None else wait / SECOND):
                    await self.changed.wait()
        finally:
            self.waiting.remove(ticket)
            heapq.heapify(self.waiting)
            self.row.waiting = len(self.waiting)
            self.wake()

    async def unblocked(self, now: Callable[[], Moment]) -> None:
        """Return when the host has not said to stop; for who has been granted already."""
        while (left := self.budget.blocked_until - now().monotonic) > 0:
            with trio.move_on_after(left / SECOND):
                await self.changed.wait()


class _Network(httpcore.AsyncNetworkBackend):
    """How httpx reaches a host: as the websockets do. Its own way through a SOCKS proxy leaks
    sockets, and errors that are nobody's.
    """

    def __init__(self, proxy: str | None) -> None:
        self._proxy = proxy

    async def connect_tcp(
        self, host: str, port: int, *_: object, **_options: object
    ) -> httpcore.AsyncNetworkStream:
        try:
            return TrioStream(await connect(host, port, self._proxy))
        except FOREIGN as error:
            # In words: on its way out httpx forgets the cause.
            raise httpcore.ConnectError(words(error)) from error


class Rest:
    """Everything that is asked over HTTP, by whomever."""

    def __init__(
        self,
        hosts: Hosts,
        proxies: Proxies,
        now: Callable[[], Moment],
        verify: ssl.SSLContext,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`transport` carries all requests; None: the network does, a pool a host."""
        self._hosts = hosts
        self._proxies = proxies
        self._now = now
        self._verify = verify
        self._transport = transport
        self._gates: dict[str, _Gate] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for gate in self._gates.values():
            with trio.move_on_after(1, shield=True):
                await gate.client.aclose()

    def allow(self, url: str, weight: int, period: float = 60.0) -> None:
        """Set what the host of `url` allows in each `period` seconds."""
        gate = self._gate(url)
        gate.budget.limit, gate.budget.period = weight, period
        gate.row.weight_limit = weight

    async def fetch(self, request: Fetch, say: Say | None = None) -> Fetched | FetchFailed:
        """The answer to a request, when its host's budget allows it to be asked.

        Waits for that as long as it takes; from then on at most `ANSWER_WITHIN`.
        """
        gate = self._gate(request.url)
        await gate.enter(request.weight, request.priority, self._now)
        if request.before is not None and say is not None:
            await say(request.before)
            await trio.sleep(request.settle)
        async with gate.lanes:
            await gate.unblocked(self._now)
            # Not before it is said: a subscription stands whether or not its snapshot can be had.
            breaker = self._hosts.breaker("rest", gate.row.host)
            if spared := breaker.admit(self._now().monotonic):
                words = f"it failed {breaker.failures} times in a row and is left alone for now"
                return FetchFailed(None, spared / SECOND, words.encode())
            return await self._ask(request, gate)

    async def require(self, request: Fetch) -> bytes:
        """The body of an answer that nothing goes on without.

        Raises:
            Lost: no answer, or the host is in trouble.
            RateLimited: it says that we ask too much.
            Refused: it will not have us.
        """
        answer = await self.fetch(request)
        if isinstance(answer, Fetched):
            return answer.body
        raise failure(request, answer)

    async def _ask(self, request: Fetch, gate: _Gate) -> Fetched | FetchFailed:
        host = gate.row.host
        breaker = self._hosts.breaker("rest", host)
        asked = self._now().monotonic
        try:
            with trio.fail_after(ANSWER_WITHIN):
                async with gate.client.stream("GET", request.url) as response:
                    body = await _body(response)
        except (httpx.HTTPError, httpx.StreamError, OSError, trio.TooSlowError) as error:
            reason = _words(error)
            now = self._now().monotonic
            self._hosts.failed(host, reason, now)
            breaker.failed(now)
            return FetchFailed(None, None, reason.encode())
        self._heed(response, gate)
        if response.status_code < 500:
            breaker.succeeded()
        else:
            breaker.failed(self._now().monotonic)
        if response.status_code == 200 and body is not None:
            self._hosts.reached(host, self._now().monotonic)
            return Fetched(body, asked)
        return self._failed(response, body or b"", gate)

    def _heed(self, response: httpx.Response, gate: _Gate) -> None:
        said = response.headers.get(USED_WEIGHT, "")
        if said.isascii() and said.isdigit():
            gate.budget.observed(int(said[:9]), self._now().monotonic)
            gate.row.used_weight = gate.budget.used

    def _failed(self, response: httpx.Response, body: bytes, gate: _Gate) -> FetchFailed:
        status, host, now = response.status_code, gate.row.host, self._now().monotonic
        retry_after = _seconds(response.headers.get("Retry-After", ""))
        if status in BAN_SECONDS:
            retry_after = BAN_SECONDS[status] if retry_after is None else retry_after
            self._hosts.stop(host, retry_after, now)
            words = f"rate limit: status {status}, stopped for {retry_after:g} s"
            self._hosts.refused(host, words, now)
        elif status in (401, 403, 451):
            self._hosts.refused(host, f"status {status}: it refuses us, or our place", now)
        else:
            self._hosts.reached(host, now)
        return FetchFailed(status, retry_after, body)

    def _gate(self, url: str) -> _Gate:
        host = _host(url)
        if host not in self._gates:
            client = httpx.AsyncClient(
                transport=self._transport or self._network(url),
                trust_env=False,
                timeout=None,
                headers={"Accept-Encoding": "gzip"},
            )
            budget = self._hosts.share(host, Budget(6000))
            self._gates[host] = _Gate(budget, self._hosts.row(host), client)
        return self._gates[host]

    def _network(self, url: str) -> httpx.AsyncBaseTransport:
        transport = httpx.AsyncHTTPTransport(trust_env=False)
        transport._pool = httpcore.AsyncConnectionPool(
            self._verify, network_backend=_Network(self._proxies.proxy_for(url))
        )
        return transport


def failure(request: Fetch, answer: FetchFailed) -> Transient | Refused:
    """What to conclude from an answer that is of no use."""
    host, status = _host(request.url), answer.status
    if status is None:
        words = answer.body.decode(errors="replace")
        return Lost(f"{host}: {words}", retry_after=answer.retry_after)
    if status in BAN_SECONDS:
        return RateLimited(f"{host} says that we ask too much", retry_after=answer.retry_after)
    if 400 <= status < 500:
        return Refused(f"{host} refuses us with status {status}")
    return Lost(f"{host} answers with status {status}")


async def _body(response: httpx.Response) -> bytes | None:
    parts, size = [], 0
    # Cancelled, not left: httpx stacks generators, which must end in their order.
    with trio.CancelScope() as scope:
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MAX_BODY_BYTES:
                scope.cancel()
            else:
                parts.append(part)
    return b"".join(parts) if size <= MAX_BODY_BYTES else None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _seconds(text: str) -> float | None:
    return float(text[:9]) if text.isascii() and text.isdigit() else None


def _words(error: Exception) -> str:
    if isinstance(error, (httpx.TimeoutException, trio.TooSlowError)):
        return f"no answer within {ANSWER_WITHIN:g} s"
    return words(error)
