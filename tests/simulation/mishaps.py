"""The faults of R1, a function a kind. Each does it at once, or sees to it that it happens soon."""

from collections.abc import Callable

import trio
from chaos import Chaos, fault
from truth import Truthful

from marketprism.simulator.events import Message

BINANCE = ("binance_spot", "binance_derivatives")
OKX = ("okx_spot", "okx_derivatives")
NOTICED_WITHIN = 60.0
"""Seconds: what says nothing is given time, since markets are silent, too."""


def _counted(exchange: Truthful) -> Callable[[Message], bool]:
    """What of an exchange has numbers that show a loss."""
    kinds = ("orderbook", "trade") if exchange.venue in BINANCE else ("orderbook",)
    return lambda message: message.kind in kinds


# Connections


@fault
def cut(chaos: Chaos) -> str | None:
    """A connection is reset."""
    if not (links := chaos.net.links):
        return None
    link = chaos.chance.choice(links)
    link.cut()
    return link.host


@fault
def end(chaos: Chaos) -> str | None:
    """The exchange hangs up without a word."""
    if not (links := chaos.net.links):
        return None
    link = chaos.chance.choice(links)
    link.down.finish()
    return link.host


@fault
def hole(chaos: Chaos) -> str | None:
    """A connection stands, and nothing passes any more."""
    if not (links := chaos.net.links):
        return None
    link = chaos.chance.choice(links)
    link.swallow()
    return link.host


@fault
def stall(chaos: Chaos) -> str | None:
    """A connection's bytes are late."""
    if not (links := chaos.net.links):
        return None
    link, seconds = chaos.chance.choice(links), chaos.seconds(1, 8)
    link.stall(seconds)
    return f"{link.host} {seconds}"


@fault
def flip(chaos: Chaos) -> str | None:
    """A bit on the way to us is not what it was."""
    if not (links := chaos.net.links):
        return None
    link = chaos.chance.choice(links)
    link.down.flips += 1
    return link.host


@fault
def unreachable(chaos: Chaos) -> str | None:
    """A host refuses connections for a while, and ends those it has."""
    host, seconds = chaos.host(), chaos.seconds(1, 15)
    chaos.net.weather[host].refuses_until = trio.current_time() + seconds
    for link in [link for link in chaos.net.links if link.host == host]:
        link.cut()
    return f"{host} {seconds}"


@fault
def vanished(chaos: Chaos) -> str | None:
    """A host answers nothing for a while; what stood is dead."""
    host, seconds = chaos.host(), chaos.seconds(2, 25)
    chaos.net.weather[host].swallows_until = trio.current_time() + seconds
    for link in [link for link in chaos.net.links if link.host == host]:
        link.swallow()
    return f"{host} {seconds}"


@fault
def closed(chaos: Chaos) -> str | None:
    """All connections of an exchange are closed with a code."""
    exchange, code = chaos.venue(), chaos.chance.choice([1000, 1001, 1008, 1011, 1012])
    assert exchange is not None
    exchange.faults.cut(code=code)
    return f"{exchange.venue} {code}"


@fault
def shutdown(chaos: Chaos) -> str | None:
    """The exchange announces its end, and keeps its word."""
    if (exchange := chaos.venue(*BINANCE, *OKX)) is None:
        return None
    exchange.faults.server_shutdown()
    return exchange.venue


@fault
def rejected(chaos: Chaos) -> str | None:
    """Handshakes are answered with an HTTP status for a while, after a cut."""
    exchange, status = chaos.venue(), chaos.chance.choice([429, 500, 503])
    assert exchange is not None
    seconds = chaos.seconds(1, 8)
    exchange.faults.refuse(seconds, status=status)
    exchange.faults.cut()
    return f"{exchange.venue} {status} {seconds}"


@fault
def forbidden(chaos: Chaos) -> str | None:
    """A host will not have us for a while, neither by websocket nor over REST."""
    exchange, status = chaos.venue(), chaos.chance.choice([401, 403, 451])
    assert exchange is not None
    seconds = chaos.seconds(1, 20)
    exchange.faults.refuse(seconds, status=status)
    exchange.faults.fail(status, count=chaos.chance.randint(1, 4))
    exchange.faults.cut()
    return f"{exchange.venue} {status} {seconds}"


# Messages


@fault
def skip(chaos: Chaos) -> str | None:
    """Messages that have numbers are not sent."""
    if (exchange := chaos.venue(*BINANCE, *OKX)) is None:
        return None
    kinds = ("orderbook", "trade") if exchange.venue in BINANCE else ("orderbook",)
    kind, count = chaos.chance.choice(kinds), chaos.chance.randint(1, 4)
    exchange.faults.skip(count, symbol=chaos.chance.choice(list(exchange.symbols)), kind=kind)
    return f"{exchange.venue} {kind} {count}"


@fault
def duplicate(chaos: Chaos) -> str | None:
    """Messages are sent twice."""
    exchange, count = chaos.venue(), chaos.chance.randint(1, 5)
    assert exchange is not None
    exchange.faults.duplicate(count)
    return f"{exchange.venue} {count}"


@fault
def swap(chaos: Chaos) -> str | None:
    """Two messages that have numbers change places."""
    if (exchange := chaos.venue(*BINANCE, *OKX)) is None:
        return None
    exchange.swap(_counted(exchange))
    return exchange.venue


@fault
def misprint(chaos: Chaos) -> str | None:
    """A book's checksum does not agree."""
    if (exchange := chaos.venue(*OKX)) is None:
        return None
    exchange.faults.bad_checksum()
    return exchange.venue


@fault
def renumber(chaos: Chaos) -> str | None:
    """The numbers of a book begin anew."""
    if (exchange := chaos.venue(*OKX)) is None:
        return None
    symbol = chaos.chance.choice(list(exchange.symbols))
    said = f"{exchange.venue} {symbol}"
    # Twice within the duplicate window, and ids mean two things: JetStream takes the second for
    # the first.
    if any((kind, what) == ("renumber", said) for _, kind, what in chaos.done):
        return None
    exchange.faults.renumber(symbol)
    return said


@fault
def garbage(chaos: Chaos) -> str | None:
    """Messages that cannot be meant."""
    exchange = chaos.venue()
    assert exchange is not None
    flaw = chaos.chance.choice(
        ["malformed", "truncated", "binary", "unknown_event", "negative_price", "text_price"]
    )
    exchange.faults.garbage(flaw)  # type: ignore[arg-type]
    return f"{exchange.venue} {flaw}"


@fault
def withhold(chaos: Chaos) -> str | None:
    """A new subscriber gets no book; so that there is one, connections are cut."""
    if (exchange := chaos.venue(*OKX)) is None:
        return None
    exchange.faults.withhold(chaos.chance.randint(1, 2))
    exchange.faults.cut()
    return exchange.venue


@fault
def deaf(chaos: Chaos) -> str | None:
    """An exchange's present connections get nothing more, and end a while later."""
    exchange, seconds = chaos.venue(), chaos.seconds(1, 5)
    assert exchange is not None
    exchange.faults.mute(seconds + 100.0)
    for ident in list(exchange.connections):
        chaos.net.after(seconds, exchange, ident)
    return f"{exchange.venue} {seconds}"


@fault
def mute(chaos: Chaos) -> str | None:
    """A connection stands, answers pings, and says nothing any more, whatever was acknowledged."""
    exchange = chaos.venue()
    assert exchange is not None
    if not exchange.connections or chaos.until - trio.current_time() < NOTICED_WITHIN:
        return None
    ident = chaos.chance.choice(list(exchange.connections))
    exchange.faults.mute(1e9, connection=ident)
    return f"{exchange.venue} {ident}"


@fault
def silenced(chaos: Chaos) -> str | None:
    """A stream that has numbers is acknowledged, and says nothing for a while."""
    if (exchange := chaos.venue(*BINANCE, *OKX)) is None:
        return None
    counted = _counted(exchange)
    names = sorted(name for name, told in exchange.told.items() if counted(told[0].message))
    if not names:
        return None
    name, seconds = chaos.chance.choice(names), chaos.seconds(1, 45)
    exchange.faults.mute(seconds, stream=name)
    if chaos.chance.random() < 0.5:
        exchange.faults.cut()
    return f"{exchange.venue} {name} {seconds}"


# REST


@fault
def late(chaos: Chaos) -> str | None:
    """Snapshots come late; so that some are asked for, connections are cut."""
    if (exchange := chaos.venue(*BINANCE, *OKX)) is None:
        return None
    seconds = chaos.seconds(0.5, 14)
    exchange.faults.late(seconds, count=chaos.chance.randint(1, 3))
    exchange.faults.cut()
    return f"{exchange.venue} {seconds}"


@fault
def stale(chaos: Chaos) -> str | None:
    """Snapshots are of long ago."""
    if (exchange := chaos.venue(*BINANCE, *OKX)) is None:
        return None
    exchange.faults.stale(chaos.chance.randint(1, 2))
    exchange.faults.skip(1, kind="orderbook")
    return exchange.venue


@fault
def fail(chaos: Chaos) -> str | None:
    """Requests fail, some with a word on when to come again."""
    exchange, status = chaos.venue(), chaos.chance.choice([429, 418, 500, 503])
    assert exchange is not None
    after = chaos.chance.randint(1, 10) if status in (429, 418) else None
    exchange.faults.fail(status, count=chaos.chance.randint(1, 4), retry_after=after)
    exchange.faults.cut()
    return f"{exchange.venue} {status} {after}"


@fault
def garbled(chaos: Chaos) -> str | None:
    """Answers are somebody else's."""
    host = chaos.host()
    chaos.net.weather[host].garbles += chaos.chance.randint(1, 3)
    return host


@fault
def unanswered(chaos: Chaos) -> str | None:
    """Requests are never answered."""
    host = chaos.host()
    chaos.net.weather[host].hangs += chaos.chance.randint(1, 2)
    return host


# Our own side


@fault
def broker_killed(chaos: Chaos) -> str | None:
    """The sink's server dies, and comes back."""
    seconds = chaos.seconds(0.2, 20)
    chaos.broker.kill(seconds)
    return f"{seconds}"


@fault
def broker_stalled(chaos: Chaos) -> str | None:
    """It stands still, and goes on."""
    seconds = chaos.seconds(0.5, 10)
    chaos.broker.stalled_until = trio.current_time() + seconds
    return f"{seconds}"


@fault
def acks_lost(chaos: Chaos) -> str | None:
    """It stores, and we do not hear of it."""
    seconds = chaos.seconds(0.1, 4)
    chaos.broker.acks_lost_until = trio.current_time() + seconds
    return f"{seconds}"


@fault
def broker_full(chaos: Chaos) -> str | None:
    """It refuses to store."""
    seconds = chaos.seconds(0.5, 8)
    chaos.broker.full_until = trio.current_time() + seconds
    return f"{seconds}"


@fault
def clock_set(chaos: Chaos) -> str | None:
    """Our wall clock jumps."""
    skew = round(chaos.chance.choice([-3600, -5, -0.4, 0.3, 7, 3600]) * 1e9)
    chaos.clock.skew = skew
    return f"{skew}"
