"""What an exchange says for a while and does not mean for ever, a function a kind: refusals,
answers that are lost or odd, halts, stamps of a time to come, rows that only keep a place.
"""

import trio
from chaos import Chaos, said
from truth import STAMPED_AHEAD, Truthful

PASSES = {"binance": "4", "okx": "50026", "deribit": "11051"}
"""Codes that say that the exchange cannot now."""
REFUSES = {"binance": "2", "okx": "60018", "deribit": "-32602"}
"""Codes that say that it will not."""
FORMS = ("text_id", "more_keys", "empty_result")
DATED = {
    "binance_spot": ("trade", "orderbook"),
    "binance_derivatives": ("trade", "orderbook", "funding_rate"),
    "okx_spot": ("trade", "orderbook"),
    "okx_derivatives": ("trade", "orderbook", "funding_rate", "open_interest"),
    "deribit_derivatives": ("volatility_index",),
}
"""What has stamps, by venue."""
NOTICED_WITHIN = 60.0
"""Seconds: a market that rests is looked for again, and found to trade, in its own time."""


def _exchange(chaos: Chaos) -> tuple[Truthful, str]:
    exchange = chaos.venue()
    assert exchange is not None
    return exchange, exchange.venue.partition("_")[0]


@said
def passing(chaos: Chaos) -> str | None:
    """Subscriptions are refused by a code that passes, after a cut."""
    (exchange, name), seconds = _exchange(chaos), chaos.seconds(1, 30)
    exchange.faults.refuse_subscriptions(seconds, PASSES[name], "not now")
    exchange.faults.cut()
    return f"{exchange.venue} {seconds}"


@said
def refused(chaos: Chaos) -> str | None:
    """Subscriptions are refused as if for good, all of them or one."""
    (exchange, name), seconds = _exchange(chaos), chaos.seconds(1, 15)
    stream = chaos.chance.choice([None, *sorted(exchange.streams)])
    exchange.faults.refuse_subscriptions(seconds, REFUSES[name], "never", stream)
    exchange.faults.cut()
    return f"{exchange.venue} {stream} {seconds}"


@said
def answers_lost(chaos: Chaos) -> str | None:
    """Commands are obeyed, and nothing is said to them."""
    (exchange, _), seconds = _exchange(chaos), chaos.seconds(1, 30)
    exchange.faults.lose_answers(seconds)
    exchange.faults.cut()
    return f"{exchange.venue} {seconds}"


@said
def answers_odd(chaos: Chaos) -> str | None:
    """Answers have another form."""
    (exchange, _), seconds = _exchange(chaos), chaos.seconds(1, 60)
    form = chaos.chance.choice(FORMS)
    exchange.faults.odd_answers(seconds, form)  # type: ignore[arg-type]  # one of the forms
    exchange.faults.cut()
    return f"{exchange.venue} {form} {seconds}"


@said
def pongs_lost(chaos: Chaos) -> str | None:
    """Heartbeats of ours are not answered."""
    (exchange, _), seconds = _exchange(chaos), chaos.seconds(5, 60)
    exchange.faults.lose_answers(seconds, "heartbeat")
    return f"{exchange.venue} {seconds}"


@said
def halt(chaos: Chaos) -> str | None:
    """A market rests for a while."""
    if chaos.until - trio.current_time() < NOTICED_WITHIN:
        return None
    exchange, _ = _exchange(chaos)
    if exchange.venue.startswith("deribit"):
        return None
    symbol, seconds = chaos.chance.choice(sorted(exchange.symbols)), chaos.seconds(1, 20)
    exchange.faults.halt(symbol, seconds)
    return f"{exchange.venue} {symbol} {seconds}"


@said
def stamped_ahead(chaos: Chaos) -> str | None:
    """Messages have stamps of a time to come, an hour or a day."""
    exchange, _ = _exchange(chaos)
    kind, count = chaos.chance.choice(DATED[exchange.venue]), chaos.chance.randint(1, 4)
    seconds = chaos.chance.choice(STAMPED_AHEAD)
    for _ in range(count):
        exchange.misdate(lambda message: message.kind == kind, seconds)
    return f"{exchange.venue} {kind} {count} {seconds}"


@said
def placeholders(chaos: Chaos) -> str | None:
    """The list of markets keeps places for others of the same base and quote, from the beginning
    on; here it is read again, since a market rests for a while.
    """
    return halt(chaos)
