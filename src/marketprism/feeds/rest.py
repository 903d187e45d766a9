"""REST over httpx: one client, a weight budget a host, a word to stop obeyed by all callers."""

import heapq
import ssl
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Self

import attrs
import httpcore
import httpx
import trio
from httpcore._backends.trio import TrioStream

from marketprism.board.rows import HostRow
from marketprism.clock import SECOND, Timestamp
from marketprism.errors import Lost, RateLimited, Refused, Transient
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Priority, Send
from marketprism.feeds.budget import Budget
from marketprism.feeds.dialing import FOREIGN, connect, words
from marketprism.feeds.hosts import Hosts, host_of
from marketprism.feeds.http_answers import FORBIDDEN, HttpAnswer, Meaning, worded
from marketprism.feeds.proxies import Proxies
from marketprism.feeds.stops import Stop

ANSWER_WITHIN = 10.0
"""Seconds for an answer, from its grant."""
MAX_BODY_BYTES = 64 * 2**20
LANES = 8
"""Requests to one host under way at a time: those that a ban comes too late for."""

Say = Callable[[Send], Awaitable[None]]
"""Sends on the websocket, and returns when it is sent."""


class _Stopped(Exception):
    """The host said stop while a request of ours was on its way to it."""


@attrs.define(eq=False)
class _Gate:
    """Who may ask a host next: by priority, then in order, when the budget has room."""

    budget: Budget
    stop: Stop
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

    async def enter(self, weight: int, priority: int, now: Callable[[], Timestamp]) -> None:
        ticket = (priority, next(self.tickets))
        # What is spent is gone: half of it stays with those who cannot wait.
        spared = self.budget.limit // 2 if priority >= Priority.AUDIT else 0
        heapq.heappush(self.waiting, ticket)
        self.row.waiting = len(self.waiting)
        try:
            while True:
                first = self.waiting[0] == ticket
                wait = self._wait(weight + spared, now().monotonic) if first else None
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

    def _wait(self, weight: int, now: int) -> int:
        return max(self.stop.wait(now), self.budget.wait(weight, now))


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
        now: Callable[[], Timestamp],
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
        gate, who, before = self._gate(request.url), object(), request.before
        while True:
            await gate.enter(request.weight, request.priority, self._now)
            if before is not None and say is not None:
                await say(before)
                await trio.sleep(request.after_send)
                before = None
            async with gate.lanes:
                if gate.stop.admit(who, self._now().monotonic):
                    # What was granted before the host said stop must be granted anew, else all of
                    # it would go out at the end beside what the budget allows then.
                    continue
                try:
                    return await self._admitted(request, gate, who)
                except _Stopped:
                    continue
                finally:
                    gate.stop.left(who)
                    gate.wake()

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

    async def _admitted(self, request: Fetch, gate: _Gate, who: object) -> Fetched | FetchFailed:
        # Not before it is said: a subscription stands whether or not its snapshot can be had.
        breaker = self._hosts.breaker("rest", gate.row.host)
        if spared := breaker.admit(self._now().monotonic):
            words = f"it failed {breaker.failures} times in a row and is left alone for now"
            return FetchFailed(None, spared / SECOND, words.encode())
        return await self._ask(request, gate, who)

    async def _ask(self, request: Fetch, gate: _Gate, who: object) -> Fetched | FetchFailed:
        host = gate.row.host
        breaker = self._hosts.breaker("rest", host)
        asked = self._now().monotonic

        async def check(event: str, _: dict[str, Any]) -> None:
            """Connecting takes time, in which others may have been told."""
            asks = event.endswith("send_request_headers.started")
            if asks and self._now().monotonic < gate.stop.until:
                raise _Stopped

        try:
            with trio.fail_after(ANSWER_WITHIN):
                async with gate.client.stream(
                    "GET", request.url, extensions={"trace": check}
                ) as response:
                    body = await _body(response)
        except (httpx.HTTPError, httpx.StreamError, OSError, trio.TooSlowError) as error:
            reason = _words(error)
            now = self._now().monotonic
            self._hosts.failed(host, reason, now)
            breaker.failed(now)
            return FetchFailed(None, None, reason.encode())
        status = response.status_code
        if status < 500:
            breaker.succeeded()
        else:
            breaker.failed(self._now().monotonic)
        answer = HttpAnswer(status, dict(response.headers), body or b"")
        meaning = self._hosts.meaning(request.url, answer, self._now().wall)
        if body is None and meaning.error is None:
            meaning = Meaning("its answer is too large")
        retry_after = self._heed(meaning, status, gate, who)
        if meaning.error is None:
            return Fetched(answer.body, asked)
        return FetchFailed(status, retry_after, answer.body, meaning)

    def _heed(self, meaning: Meaning, status: int, gate: _Gate, who: object) -> float | None:
        """Whatever it says of us, and not of what was asked for. The least number of seconds until
        it may be asked again, where it says so.
        """
        host, now = gate.row.host, self._now().monotonic
        if meaning.used_weight is not None:
            gate.budget.observed(meaning.used_weight, now)
            gate.row.used_weight = gate.budget.used
        if meaning.stop is not None:
            until = gate.stop.until
            left = self._hosts.stop(host, meaning.retry_after, meaning.stop, now)
            if gate.stop.until != until:
                words = f"rate limit: {worded(status, meaning)}, stopped for {round(left, 1):g} s"
                self._hosts.refused(host, words, now)
            return left
        gate.stop.passed(who)
        if status in FORBIDDEN:
            self._hosts.refused(host, f"status {status}: it refuses us, or our place", now)
        else:
            self._hosts.reached(host, now)
        return meaning.retry_after

    def _gate(self, url: str) -> _Gate:
        host = host_of(url)
        if host not in self._gates:
            client = httpx.AsyncClient(
                transport=self._transport or self._network(url),
                trust_env=False,
                timeout=None,
                headers={"Accept-Encoding": "gzip"},
            )
            stop, row = self._hosts.stop_of(host), self._hosts.row(host)
            self._gates[host] = _Gate(Budget(6000), stop, row, client)
        return self._gates[host]

    def _network(self, url: str) -> httpx.AsyncBaseTransport:
        transport = httpx.AsyncHTTPTransport(trust_env=False)
        transport._pool = httpcore.AsyncConnectionPool(
            self._verify, network_backend=_Network(self._proxies.proxy_for(url))
        )
        return transport


def failure(request: Fetch, answer: FetchFailed) -> Transient | Refused:
    """What to conclude from an answer that is of no use."""
    host, said, retry_after = host_of(request.url), answer.meaning, answer.retry_after
    if answer.status is None:
        return Lost(f"{host}: {said.error}", retry_after=retry_after)
    if said.stop is not None:
        return RateLimited(f"{host} says that we ask too much", retry_after=retry_after)
    words = worded(answer.status, said)
    if not said.passes:
        return Refused(f"{host} refuses us with {words}")
    return Lost(f"{host} answers with {words}", retry_after=retry_after)


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


def _words(error: Exception) -> str:
    if isinstance(error, (httpx.TimeoutException, trio.TooSlowError)):
        return f"no answer within {ANSWER_WITHIN:g} s"
    return words(error)
