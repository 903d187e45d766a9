"""REST over real sockets: answers, the budget of each host, and what is concluded of trouble."""

import datetime
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from patience import PATIENCE
from peers import (
    LOCAL,
    Handler,
    Proxy,
    a_world,
    answer,
    serving,
    until_blank,
)
from ports import free_port
from trio.testing import wait_all_tasks_blocked
from trustme import CA

from marketprism.errors import Lost, MarketPrismError, RateLimited, Refused
from marketprism.feeds import rest as rest_module
from marketprism.feeds.actions import Fetch, Fetched, FetchFailed, Priority, Send
from marketprism.feeds.http_answers import STOPS, HttpAnswer, Meaning
from marketprism.feeds.rest import Rest
from marketprism.feeds.services import Services
from marketprism.settings.settings import ProxyConfig
from marketprism.supervise import BreakerState

PERIOD = 0.25
"""Seconds of a budget in these tests."""

Answers = Callable[[str], bytes]


def ok(_path: str) -> bytes:
    """An answer to anything."""
    return answer(200, b"{}")


@attrs.define(eq=False)
class Host:
    """A host of the test: what it was asked for and when, and how many connections it has."""

    answers: Answers = ok
    port: int = 0
    asked: list[str] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    connections: int = 0

    @property
    def name(self) -> str:
        return f"{LOCAL}:{self.port}"

    def url(self, path: str = "/x") -> str:
        return f"http://{self.name}{path}"

    async def __call__(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        try:
            while request := await until_blank(stream):
                path = request.split()[1].decode()
                self.asked.append(path)
                self.times.append(trio.current_time())
                await stream.send_all(self.answers(path))
        finally:
            self.connections -= 1


@asynccontextmanager
async def host(answers: Answers = ok) -> AsyncIterator[Host]:
    """A host that listens."""
    made = Host(answers)
    async with serving(made) as made.port:
        yield made


def saying(text: bytes) -> Answers:
    """The same answer to everything."""
    return lambda _path: text


async def failed(services: Services, url: str) -> FetchFailed:
    """An answer that must be of no use."""
    got = await services.rest.fetch(Fetch(url))
    assert isinstance(got, FetchFailed)
    return got


async def test_an_answer_is_its_body_and_when_it_was_asked_for() -> None:
    """The moment before the request: what was acknowledged before then is complete in it."""
    async with a_world() as services, host(saying(answer(200, b"[1]"))) as peer:
        before = services.now().monotonic
        got = await services.rest.fetch(Fetch(peer.url("/depth?limit=5")))
        assert isinstance(got, Fetched)
        assert got.body == b"[1]"
        assert before <= got.asked <= services.now().monotonic
        assert peer.asked == ["/depth?limit=5"]
        assert services.board.hosts[peer.name].reachable


async def test_a_compressed_answer_is_what_was_meant() -> None:
    """Metadata is megabytes: we ask for gzip."""
    packed = answer(200, gzip.compress(b"x" * 9999), Content_Encoding="gzip")
    async with a_world() as services, host(saying(packed)) as peer:
        assert await services.rest.require(Fetch(peer.url())) == b"x" * 9999


async def test_the_weight_is_on_the_board_as_the_host_counts_it() -> None:
    """Others may use our address. Which header says it, the venue declares."""
    said = answer(200, X_Used="1234")

    def interpret(answered: HttpAnswer, _wall: int) -> Meaning:
        return Meaning(used_weight=int(answered.headers["x-used"]))

    async with a_world() as services, host(saying(said)) as peer:
        services.hosts.learn(f"http://{peer.name}", interpret)
        services.rest.allow(peer.url(), 4500)
        await services.rest.fetch(Fetch(peer.url(), weight=5))
        row = services.board.hosts[peer.name]
        assert (row.used_weight, row.weight_limit) == (1234, 4500)


async def test_who_finds_no_room_waits_for_it() -> None:
    """Until what was spent no longer counts; an other host's budget is its own."""
    async with a_world() as services, host() as peer, host() as other:
        services.rest.allow(peer.url(), 10, 4 * PERIOD)
        services.rest.allow(other.url(), 10, 4 * PERIOD)
        # The grant counts: a busy machine may be long about the request.
        granted = trio.current_time()
        await services.rest.fetch(Fetch(peer.url(), weight=10))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(services.rest.fetch, Fetch(peer.url(), weight=1))
            nursery.start_soon(services.rest.fetch, Fetch(other.url(), weight=10))
        assert other.times[0] < peer.times[1]
        assert peer.times[1] - granted >= 4 * PERIOD


async def test_a_resynchronisation_overtakes_the_polls_that_wait() -> None:
    """By priority, then in the order of asking; the board says how many wait."""
    async with a_world() as services, host() as peer:
        services.rest.allow(peer.url(), 10, PERIOD)
        await services.rest.fetch(Fetch(peer.url("/first"), weight=10))
        async with trio.open_nursery() as nursery:
            for path, priority in (
                ("/poll/1", Priority.POLL),
                ("/poll/2", Priority.POLL),
                ("/audit", Priority.AUDIT),
                ("/snapshot", Priority.FIRST_SNAPSHOT),
                ("/resync", Priority.RESYNC),
            ):
                wish = Fetch(peer.url(path), weight=10, priority=priority)
                nursery.start_soon(services.rest.fetch, wish)
                await wait_all_tasks_blocked(0.005)
            assert services.board.hosts[peer.name].waiting == 5
        assert peer.asked == ["/first", "/resync", "/snapshot", "/poll/1", "/poll/2", "/audit"]
        assert services.board.hosts[peer.name].waiting == 0


async def test_an_audit_leaves_half_of_the_budget_to_others() -> None:
    """What it spends is gone: a resynchronisation after it must not wait for it."""
    async with a_world() as services, host() as peer:
        services.rest.allow(peer.url(), 100, 60.0)
        audit = Fetch(peer.url("/audit"), weight=30, priority=Priority.AUDIT)
        assert isinstance(await services.rest.fetch(audit), Fetched)
        with trio.move_on_after(0.2) as second:
            await services.rest.fetch(audit)
        assert second.cancelled_caught
        resync = Fetch(peer.url("/resync"), weight=70, priority=Priority.RESYNC)
        with trio.fail_after(PATIENCE):
            assert isinstance(await services.rest.fetch(resync), Fetched)
        assert peer.asked == ["/audit", "/resync"]


async def test_who_is_cancelled_while_waiting_leaves_no_ticket_behind() -> None:
    """Those behind move up; what it did not spend is theirs."""
    async with a_world() as services, host() as peer:
        services.rest.allow(peer.url(), 10, 8 * PERIOD)
        await services.rest.fetch(Fetch(peer.url(), weight=10))
        with trio.move_on_after(PERIOD / 4):
            await services.rest.fetch(
                Fetch(peer.url("/given-up"), weight=10, priority=Priority.RESYNC)
            )
        assert services.board.hosts[peer.name].waiting == 0
        with trio.fail_after(15 * PERIOD):
            await services.rest.fetch(Fetch(peer.url("/next"), weight=10))
        assert peer.asked == ["/x", "/next"]


async def test_what_must_be_said_before_is_said_and_settled_first() -> None:
    """Subscribe, let the exchange take note, then ask for the snapshot; all after the grant."""
    said: list[tuple[Send, float]] = []

    async def say(send: Send) -> None:
        await trio.sleep(0.05)
        said.append((send, trio.current_time()))

    async with a_world() as services, host() as peer:
        services.rest.allow(peer.url(), 10, PERIOD)
        granted = trio.current_time()
        await services.rest.fetch(Fetch(peer.url(), weight=10))
        await services.rest.fetch(
            Fetch(peer.url(), weight=10, before=Send("hi"), after_send=0.1), say
        )
        ((what, when),) = said
        assert what == Send("hi")
        assert when - granted >= PERIOD
        assert peer.times[1] - when >= 0.1


async def test_a_host_that_is_spared_is_not_asked_but_what_comes_before_is_said() -> None:
    """A subscription stands whether or not its snapshot can be had; the answer says when to ask
    again, and one that succeeds closes the breaker.
    """
    said: list[Send] = []

    async def say(send: Send) -> None:
        said.append(send)

    async with a_world() as services, host() as peer:
        breaker = services.hosts.breaker("rest", peer.name)
        for _ in range(breaker.failure_threshold):
            breaker.failed(services.now().monotonic)
        got = await services.rest.fetch(Fetch(peer.url(), before=Send("hi")), say)
        assert isinstance(got, FetchFailed)
        assert got.retry_after == pytest.approx(breaker.recovery_timeout, abs=1)
        assert said == [Send("hi")]
        assert peer.asked == []
        breaker.recovery_timeout = 0.0
        assert isinstance(await services.rest.fetch(Fetch(peer.url())), Fetched)
        assert breaker.state(services.now().monotonic) is BreakerState.CLOSED


@pytest.mark.parametrize("status", [429, 418])
async def test_a_ban_stops_every_caller_of_that_host_until_then(status: int) -> None:
    """Those who wait, those who come, whatever their priority; other hosts are not concerned."""
    statuses = iter([status, 200, 200, 200])
    replies: Answers = lambda _path: answer(next(statuses), retry_after="1")  # noqa: E731
    async with a_world() as services, host(replies) as peer, host() as other:
        got = await failed(services, peer.url())
        assert (got.status, got.retry_after) == (status, 1.0)
        row = services.board.hosts[peer.name]
        assert row.blocked_until > services.now().monotonic
        assert row.reason == f"rate limit: status {status}, stopped for 1 s"
        async with trio.open_nursery() as nursery:
            for priority in (Priority.METADATA, Priority.RESYNC, Priority.POLL):
                nursery.start_soon(services.rest.fetch, Fetch(peer.url(), priority=priority))
            await services.rest.fetch(Fetch(other.url()))
        assert len(peer.times) == 4
        assert other.times[0] < peer.times[1]
        assert all(at - peer.times[0] >= 0.99 for at in peer.times[1:])


async def test_a_ban_comes_too_late_for_few() -> None:
    """However many were granted at once: those that are not under way yet heed it."""
    async with a_world() as services, host(saying(answer(429, retry_after="60"))) as peer:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(services.rest.fetch, Fetch(peer.url(), weight=1))
            while not services.hosts.row(peer.name).blocked_until:  # noqa: ASYNC110
                await trio.sleep(0.01)
            await wait_all_tasks_blocked(0.1)
            nursery.cancel_scope.cancel()
        assert len(peer.asked) <= rest_module.LANES


async def test_a_ban_stops_those_who_settle_too() -> None:
    """They were granted before it came, and have not asked yet."""
    replies: Answers = lambda path: answer(429 if path == "/banned" else 200, retry_after="1")  # noqa: E731

    async def say(_send: Send) -> None:
        pass

    async with a_world() as services, host(replies) as peer:
        async with trio.open_nursery() as nursery:
            wish = Fetch(peer.url("/settled"), before=Send(""), after_send=0.2)
            nursery.start_soon(services.rest.fetch, wish, say)
            await failed(services, peer.url("/banned"))
        assert peer.asked == ["/banned", "/settled"]
        assert peer.times[1] - peer.times[0] >= 0.99


@pytest.mark.parametrize("reply", [answer(418), answer(418, Retry_After="Wed, 21 Oct 2020")])
async def test_a_ban_without_a_time_that_can_be_meant_has_ours(reply: bytes) -> None:
    """A date that is over is none, and nothing is not zero."""
    async with a_world() as services, host(saying(reply)) as peer:
        assert (await failed(services, peer.url())).retry_after == STOPS[418].first


@pytest.mark.parametrize("status", [401, 403, 451])
async def test_a_host_that_will_not_have_us_is_on_the_board(status: int) -> None:
    """It can be reached; that is not the trouble."""
    async with a_world() as services, host(saying(answer(status))) as peer:
        await failed(services, peer.url())
        row = services.board.hosts[peer.name]
        assert row.reachable
        assert row.reason == f"status {status}: it refuses us, or our place"


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, Refused, "refuses us with status 401"),
        (403, Refused, "refuses us with status 403"),
        (404, Refused, "refuses us with status 404"),
        (451, Refused, "refuses us with status 451"),
        (429, RateLimited, "we ask too much"),
        (418, RateLimited, "we ask too much"),
        (500, Lost, "answers with status 500"),
        (503, Lost, "answers with status 503"),
        (302, Lost, "answers with status 302"),
    ],
)
async def test_what_is_required_concludes(
    status: int, kind: type[MarketPrismError], words: str
) -> None:
    """The host's name is in the words; a rate limit has its time."""
    reply = answer(status, b"{}", Retry_After="3", Location="/elsewhere")
    async with a_world() as services, host(saying(reply)) as peer:
        with pytest.raises(kind, match=rf"{peer.name} .*{words}") as caught:
            await services.rest.require(Fetch(peer.url()))
        assert peer.asked == ["/x"]
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 3.0


async def test_the_exchanges_words_come_with_its_refusal() -> None:
    """An unknown symbol is told from a rate limit by them."""
    async with a_world() as services, host(saying(answer(400, b'{"code":-1121}'))) as peer:
        assert await failed(services, peer.url()) == FetchFailed(400, None, b'{"code":-1121}')


async def lost(services: Services, url: str) -> str:
    """The words for a host of which there is no answer; on the board they are the same."""
    with pytest.raises(Lost) as caught, trio.fail_after(PATIENCE):
        await services.rest.require(Fetch(url))
    name = url.split("/")[2]
    words = str(caught.value)
    row = services.board.hosts[name]
    assert row.reachable is False
    assert words == f"{name}: {row.reason}"
    return str(row.reason)


async def mute(stream: trio.abc.Stream) -> None:
    """Take what comes, and say nothing."""
    while await stream.receive_some():
        pass


async def endless(stream: trio.abc.Stream) -> None:
    """Begin an answer, and never end it."""
    await until_blank(stream)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx")
    await trio.sleep_forever()


@pytest.mark.parametrize("handler", [mute, endless])
async def test_an_answer_that_does_not_come_is_waited_for_so_long(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the grant to the last byte of it."""
    monkeypatch.setattr(rest_module, "ANSWER_WITHIN", 0.2)
    async with a_world() as services, serving(handler) as port:
        assert await lost(services, f"http://{LOCAL}:{port}/") == "no answer within 0.2 s"


def telling(text: bytes) -> Handler:
    """Say this to whoever asks, and hang up."""

    async def handler(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(text)

    return handler


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"garbage\r\n\r\n",
        b"\xff" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
)
async def test_an_answer_that_is_none_is_lost(text: bytes) -> None:
    """Cut off, garbage, without end: the host is in trouble, we are not."""
    async with a_world() as services, serving(telling(text)) as port:
        await lost(services, f"http://{LOCAL}:{port}/")


async def test_a_host_that_cannot_be_reached_is_said_in_plain_words() -> None:
    """Nobody listens; nobody has such a name."""
    async with a_world() as services:
        refused = await lost(services, f"http://{LOCAL}:{free_port()}/")
        assert refused == "it refuses the connection"
        assert "its name cannot be resolved" in await lost(services, "https://exchange.invalid/")


async def test_a_certificate_is_verified() -> None:
    """By our authorities; no request is sent to whoever shows another one."""
    authority = CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(LOCAL).configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    peer = Host()
    async with serving(peer, served) as peer.port:
        url = f"https://{peer.name}/"
        async with a_world() as services:
            assert "its certificate is not to be trusted" in await lost(services, url)
        assert peer.asked == []
        async with a_world(trusting) as services:
            assert await services.rest.require(Fetch(url)) == b"{}"


@pytest.mark.parametrize(
    ("name", "days", "words"),
    [("other.example", 1, "not valid for"), (LOCAL, -1, "has expired")],
    ids=["wrong host", "expired"],
)
async def test_a_certificate_must_be_the_hosts_and_in_time(
    name: str, days: int, words: str
) -> None:
    """Though its authority is trusted; no request is sent."""
    authority, now = CA(), datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert(name, not_before=now - 9 * day, not_after=now + days * day)
    certificate.configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    peer = Host()
    async with serving(peer, served) as peer.port, a_world(trusting) as services:
        said = await lost(services, f"https://{peer.name}/")
    assert said.startswith("its certificate is not to be trusted")
    assert words in said
    assert peer.asked == []


async def test_a_body_beyond_the_limit_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed ones are measured by what they become; one at the limit is fine."""
    monkeypatch.setattr(rest_module, "MAX_BODY_BYTES", 100_000)
    bomb = answer(200, gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")
    for reply in (answer(200, bytes(100_001)), bomb):
        async with a_world() as services, host(saying(reply)) as peer:
            got = await failed(services, peer.url())
            assert got.body == b""
            with pytest.raises(Lost):
                await services.rest.require(Fetch(peer.url()))
    async with a_world() as services, host(saying(answer(200, bytes(100_000)))) as peer:
        assert len(await services.rest.require(Fetch(peer.url()))) == 100_000


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_is_used_where_one_is_configured(scheme: str) -> None:
    """TLS is ours to the exchange's own end; what NO_PROXY names is reached directly."""
    authority = CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("exchange.test", LOCAL).configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    peer = Host()
    async with serving(peer, served) as peer.port:
        proxy = Proxy(peer.port)
        async with serving(proxy) as port:
            config = ProxyConfig(https=f"{scheme}://{LOCAL}:{port}", no_proxy=(LOCAL,))
            async with a_world(trusting, config) as services:
                assert await services.rest.require(Fetch("https://exchange.test/x")) == b"{}"
                assert await services.rest.require(Fetch(f"https://{peer.name}/y")) == b"{}"
    assert proxy.asked == ["exchange.test:443"]
    assert peer.asked == ["/x", "/y"]


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        ("http", b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"),
        ("http", b"garbage\r\n\r\n"),
        ("http", b""),
        ("socks5", b"\x05\xff"),
        ("socks5", b"garbage"),
        ("socks5", b"\x05"),
        ("socks5", b""),
    ],
)
async def test_a_proxy_that_fails_is_no_answer(scheme: str, text: bytes) -> None:
    """And nobody should look for the fault at the exchange."""
    async with serving(telling(text)) as port:
        config = ProxyConfig(https=f"{scheme}://{LOCAL}:{port}")
        async with a_world(proxy=config) as services:
            assert "proxy" in await lost(services, "https://exchange.test/")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_cannot_be_reached_is_called_by_its_name(scheme: str) -> None:
    """Without its password."""
    config = ProxyConfig(https=f"{scheme}://user:secret@{LOCAL}:{free_port()}")
    async with a_world(proxy=config) as services:
        words = await lost(services, "https://exchange.test/")
    assert "the proxy cannot be reached" in words
    assert "secret" not in words


async def test_a_certificate_behind_a_proxy_is_the_hosts_own_fault() -> None:
    """The proxy did its part."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA().issue_cert("exchange.test").configure_cert(served)
    async with serving(Host(), served) as target, serving(Proxy(target)) as port:
        config = ProxyConfig(https=f"http://{LOCAL}:{port}")
        async with a_world(proxy=config) as services:
            words = await lost(services, "https://exchange.test/")
    assert words.startswith("its certificate is not to be trusted")


async def test_the_end_closes_every_hosts_client() -> None:
    """They keep connections open between two requests; none outlives them."""
    async with host() as one, host() as other:
        async with a_world() as services:
            for peer in (one, other, one):
                await services.rest.fetch(Fetch(peer.url()))
            assert (one.connections, other.connections) == (1, 1)
        with trio.fail_after(PATIENCE):
            while one.connections or other.connections:  # noqa: ASYNC110 (sockets tell no event)
                await trio.sleep(0.01)


async def test_the_environment_says_nothing_of_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration has read it: what it made of it holds."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{LOCAL}:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://{LOCAL}:{free_port()}")
    async with a_world() as services, host() as peer:
        assert isinstance(services.rest, Rest)
        assert await services.rest.require(Fetch(peer.url())) == b"{}"
