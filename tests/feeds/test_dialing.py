"""Reaching a host over real sockets: what is reached, and what each failure is concluded to be."""

import datetime
import functools
import ssl

import pytest
import trio
from patience import PATIENCE
from peers import LOCAL, PROXY_HEAD, Handler, Proxy, serving, until_blank
from ports import free_port
from trio_websocket import ConnectionRejected
from trustme import CA, LeafCert

from marketprism.errors import Lost, MarketPrismError, RateLimited, Refused
from marketprism.feeds.dialing import dial, rejected, translated
from marketprism.feeds.http_answers import STOPS, HttpAnswer, Meaning, usual


@functools.cache
def authority() -> CA:
    """A certificate authority of our own."""
    return CA()


def context() -> ssl.SSLContext:
    """A client's, as the collector makes it, which also trusts our authority."""
    made = ssl.create_default_context()
    authority().configure_trust(made)
    return made


def server_context(certificate: LeafCert) -> ssl.SSLContext:
    """A server's, which shows this certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(made)
    return made


def expired(host: str) -> LeafCert:
    """A certificate that was good, once."""
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    return authority().issue_cert(host, not_before=now - 9 * day, not_after=now - day)


async def greet(stream: trio.abc.Stream) -> None:
    """A server that says a word."""
    await stream.send_all(b"hello")


async def heard(
    url: str, proxy: str | None = None, tls: ssl.SSLContext | None = None
) -> bytes | MarketPrismError:
    """What a host says first, or what not reaching it is concluded to mean."""
    try:
        with trio.fail_after(PATIENCE), translated("the host"):
            stream = await dial(url, proxy, tls or context())
            try:
                return bytes(await stream.receive_some())
            finally:
                await trio.aclose_forcefully(stream)
    except MarketPrismError as error:
        return error


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_a_plain_host_is_reached(scheme: str) -> None:
    """For websockets and REST alike."""
    async with serving(greet) as port:
        assert await heard(f"{scheme}://{LOCAL}:{port}/path?query") == b"hello"


@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_a_host_with_a_good_certificate_is_reached(scheme: str) -> None:
    """Good: for that name, by an authority that is trusted, in time."""
    tls = server_context(authority().issue_cert(LOCAL))
    async with serving(greet, tls) as port:
        assert await heard(f"{scheme}://{LOCAL}:{port}") == b"hello"


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (lambda: authority().issue_cert("other.example"), "not valid for"),
        (lambda: CA().issue_cert(LOCAL), "self-signed certificate|local issuer"),
        (lambda: expired(LOCAL), "has expired"),
    ],
    ids=["wrong host", "unknown authority", "expired"],
)
@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_a_certificate_that_is_not_to_be_trusted_is_a_refusal(
    certificate: functools.partial[LeafCert], words: str, scheme: str
) -> None:
    """No trying again quickly: somebody has to look. Nothing is said to such a host."""
    async with serving(greet, server_context(certificate())) as port:
        answer = await heard(f"{scheme}://{LOCAL}:{port}")
    assert isinstance(answer, Refused)
    with pytest.raises(Refused, match=rf"the host: its certificate is not to be .*({words})"):
        raise answer


async def test_a_certificate_is_verified_against_the_name_that_was_asked_for() -> None:
    """Through a proxy, too, where the address says nothing."""
    tls = server_context(authority().issue_cert("exchange.test"))
    async with serving(greet, tls) as target, serving(Proxy(target)) as port:
        proxy = f"http://{LOCAL}:{port}"
        assert await heard("wss://exchange.test", proxy) == b"hello"
        assert isinstance(await heard("wss://other.test", proxy), Refused)


async def drop(stream: trio.abc.Stream) -> None:
    """A server that hangs up at once."""
    await stream.receive_some(1)


async def babble(stream: trio.abc.Stream) -> None:
    """A server that speaks no TLS, no SOCKS and no HTTP."""
    await stream.send_all(b"220 mail.example ESMTP\r\n\r\n")
    await stream.receive_some(1)


@pytest.mark.parametrize("handler", [drop, babble])
async def test_a_host_that_speaks_no_tls_is_lost(handler: Handler) -> None:
    """The world: it may be a middle box's mood."""
    async with serving(handler) as port:
        assert isinstance(await heard(f"wss://{LOCAL}:{port}"), Lost)


async def test_a_host_that_refuses_the_connection_is_lost() -> None:
    """And it is said so, without libraries' words."""
    answer = await heard(f"ws://{LOCAL}:{free_port()}")
    assert isinstance(answer, Lost)
    assert str(answer) == "the host: it refuses the connection"


async def test_a_name_that_cannot_be_resolved_is_lost() -> None:
    """DNS may come back."""
    answer = await heard("wss://exchange.invalid")
    assert isinstance(answer, Lost)
    assert "its name cannot be resolved" in str(answer)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_brings_us_there(scheme: str) -> None:
    """By name: whoever needs a proxy may have no DNS either."""
    async with serving(greet) as target:
        proxy = Proxy(target)
        async with serving(proxy) as port:
            url = f"{scheme}://{LOCAL}:{port}"
            assert await heard("ws://exchange.invalid:9443/ws", url) == b"hello"
            assert await heard("ws://exchange.invalid", url) == b"hello"
    assert proxy.asked == ["exchange.invalid:9443", "exchange.invalid:80"]


async def test_a_proxy_is_given_the_password_it_wants() -> None:
    """As HTTP has it."""
    heads: list[bytes] = []

    async def handler(stream: trio.abc.Stream) -> None:
        heads.append(await until_blank(stream))
        await stream.send_all(PROXY_HEAD + b"hello")

    async with serving(handler) as port:
        await heard("ws://exchange.test", f"http://user:pass@{LOCAL}:{port}")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in heads[0]


def says(what: bytes) -> Handler:
    """A proxy that answers whatever it hears with this, and hangs up."""

    async def handler(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(what)

    return handler


@pytest.mark.parametrize(
    ("scheme", "handler", "words"),
    [
        ("http", says(b"HTTP/1.1 407 Who are you\r\n\r\n"), "the proxy failed (407"),
        ("http", says(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), "the proxy failed (502"),
        ("http", babble, "the proxy failed ("),
        ("http", says(b""), "the proxy failed ("),
        ("http", says(b"\xff" * 99), "the proxy failed ("),
        ("socks5", says(b"\x05\xff"), "the proxy failed ("),
        ("socks5", says(b"\x04\x00"), "the proxy failed ("),
        ("socks5", babble, "the proxy failed ("),
        ("socks5", says(b""), "the proxy failed ("),
    ],
)
async def test_a_proxy_that_fails_is_lost_and_called_by_its_name(
    scheme: str, handler: Handler, words: str
) -> None:
    """Nobody should look for the fault at the exchange."""
    async with serving(handler) as port:
        answer = await heard("ws://exchange.test", f"{scheme}://{LOCAL}:{port}")
    assert isinstance(answer, Lost)
    assert words in str(answer)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_cannot_be_reached_is_called_by_its_name(scheme: str) -> None:
    """Refused or not resolved, it is the proxy's fault, and no password of it is told."""
    for host in (f"{LOCAL}:{free_port()}", "proxy.invalid:3128"):
        answer = await heard("ws://exchange.test", f"{scheme}://user:secret@{host}")
        assert isinstance(answer, Lost)
        assert "the proxy cannot be reached" in str(answer)
        assert "secret" not in str(answer)


async def test_giving_up_closes_what_was_opened() -> None:
    """The peer of a dial that is cancelled sees its end: in TLS, and in a proxy's handshake."""
    for proxied in (False, True):
        greeted, gone = trio.Event(), trio.Event()

        async def mute(
            stream: trio.abc.Stream, greeted: trio.Event = greeted, gone: trio.Event = gone
        ) -> None:
            while await stream.receive_some():
                greeted.set()
            gone.set()

        async def dialled(port: int, proxied: bool = proxied) -> None:
            if proxied:
                await dial("ws://exchange.test", f"http://{LOCAL}:{port}", context())
            else:
                await dial(f"wss://{LOCAL}:{port}", None, context())

        with trio.fail_after(PATIENCE):
            async with serving(mute) as port:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(dialled, port)
                    await greeted.wait()
                    assert nursery.child_tasks, "it waits for an answer"
                    nursery.cancel_scope.cancel()
                await gone.wait()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, Refused), (401, Refused), (451, Refused), (500, Lost), (302, Lost), (404, Lost)],
)
def test_a_rejected_handshake_means_what_its_status_says(
    status: int, kind: type[MarketPrismError]
) -> None:
    """The host will not have us, or is in trouble."""
    error = rejected("the host", status, usual(HttpAnswer(status, {}), 0))
    assert type(error) is kind
    assert f"status {status}" in str(error)


@pytest.mark.parametrize("status", [418, 429])
@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", 60.0), ("-1", None)],
)
def test_too_many_connections_is_a_rate_limit(
    status: int, said: str, seconds: float | None
) -> None:
    """With the time to wait, where it is said: in seconds, or as a date by the host's own clock."""
    headers = {"retry-after": said, "date": "Wed, 21 Oct 2026 07:27:00 GMT"}
    error = rejected("the host", status, usual(HttpAnswer(status, headers), 0))
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds
    assert str(error) == f"the host: too many connections, status {status}"


def test_what_the_host_says_of_a_ban_stands_in_its_words() -> None:
    """Its own, where a venue knows how to read them."""
    said = Meaning("-1003: banned", stop=STOPS[418], retry_after=60.0)
    error = rejected("the host", 403, said)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 60.0
    assert str(error) == "the host: too many connections, status 403 (-1003: banned)"


def test_a_handshakes_answer_is_judged_whole() -> None:
    """Its status, its headers and its body: a ban may stand in any of them."""
    judged: list[HttpAnswer] = []

    def judge(answer: HttpAnswer) -> Meaning:
        judged.append(answer)
        return Meaning("banned", stop=STOPS[418], retry_after=7.0)

    headers = ((b"Retry-After", b"7"), (b"X-\xff", b"\xff"))
    for body in (b"IP banned", None):
        with pytest.raises(RateLimited) as caught, translated("the host", judge):
            raise ConnectionRejected(418, headers, body)
        assert caught.value.retry_after == 7.0
        assert judged.pop() == HttpAnswer(418, {"retry-after": "7", "x-ÿ": "ÿ"}, body or b"")


async def test_a_bug_crosses_the_border_as_it_is() -> None:
    """Alone or beside the world's weather: it must not be taken for that."""
    with pytest.raises(ZeroDivisionError), translated("the host"):
        raise ZeroDivisionError
    with pytest.raises(ExceptionGroup) as caught, translated("the host"):
        raise ExceptionGroup("", [OSError("weather"), ZeroDivisionError()])
    assert caught.group_contains(ZeroDivisionError)


def test_of_a_group_our_own_conclusion_is_raised() -> None:
    """The rest is its echo."""
    with pytest.raises(Refused, match="ours"), translated("the host"):
        raise ExceptionGroup("", [OSError("echo"), ExceptionGroup("", [Refused("ours")])])
