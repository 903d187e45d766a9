"""Commands that are refused, obeyed in silence or answered oddly, on request."""

import json
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from marketprism.simulator import SKINS, market
from marketprism.simulator.exchange import Exchange
from marketprism.simulator.skin import Client, Options, Reply

BOOKS = {"channel": "books", "instId": "BTC-USDT"}
TRADES = {"channel": "trades", "instId": "BTC-USDT"}
INDEX = "deribit_volatility_index.btc_usd"
COMMANDS: dict[str, tuple[str, str]] = {
    "binance_spot": (
        '{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":7}',
        '{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":7}',
    ),
    "okx_spot": (
        json.dumps({"op": "subscribe", "args": [BOOKS, TRADES]}),
        json.dumps({"op": "unsubscribe", "args": [BOOKS]}),
    ),
    "deribit_derivatives": (
        json.dumps({"id": 7, "method": "public/subscribe", "params": {"channels": [INDEX]}}),
        json.dumps({"id": 7, "method": "public/unsubscribe", "params": {"channels": [INDEX]}}),
    ),
}


@attrs.frozen
class Desk:
    """An exchange, asked without a socket."""

    exchange: Exchange

    def ask(self, text: str) -> Reply:
        skin = self.exchange.skin
        client = Client((INDEX,), 1, self.exchange.symbols)
        return self.exchange.answered(text, skin.command(text, client), client)

    def told(self, text: str) -> list[dict[str, Any]]:
        return [json.loads(answer) for answer in self.ask(text).texts]


@pytest.mark.parametrize("venue", COMMANDS)
async def test_subscriptions_are_refused_for_a_while(venue: str, autojump_clock: MockClock) -> None:
    """With that code, in the exchange's own form; nothing is subscribed, and leaving is granted."""
    subscribe, leave = COMMANDS[venue]
    desk = Desk(market(venue))
    desk.exchange.faults.refuse_subscriptions(5, "50026", "system error")
    reply = desk.ask(subscribe)
    assert reply.add == ()
    (text,) = reply.texts
    assert "50026" in text
    assert "system error" in text
    assert desk.ask(leave).remove
    await trio.sleep(5)
    assert desk.ask(subscribe).add


async def test_one_argument_of_okx_is_refused_by_name(autojump_clock: MockClock) -> None:
    """As an instrument that lists later is; the others are granted."""
    desk = Desk(market("okx_spot"))
    desk.exchange.faults.refuse_subscriptions(5, "60018", stream="books:BTC-USDT")
    reply = desk.ask(COMMANDS["okx_spot"][0])
    assert reply.add == ("trades:BTC-USDT",)
    refused, granted = (json.loads(text) for text in reply.texts)
    assert refused["code"] == "60018"
    assert "channel:books,instId:BTC-USDT doesn't exist" in refused["msg"]
    assert granted["arg"] == TRADES


async def test_answers_are_lost_though_commands_are_obeyed(autojump_clock: MockClock) -> None:
    """Those about one thing, or all."""
    subscribe, leave = COMMANDS["okx_spot"]
    desk = Desk(market("okx_spot"))
    desk.exchange.faults.lose_answers(5, "subscribe")
    reply = desk.ask(subscribe)
    assert (reply.texts, len(reply.add)) == ((), 2)
    assert desk.ask(leave).texts
    desk.exchange.faults.lose_answers(5)
    assert desk.ask(leave) == Reply((), remove=("books:BTC-USDT",))
    await trio.sleep(5)
    assert desk.ask(subscribe).texts


@pytest.mark.parametrize(
    ("venue", "beat"),
    [
        ("okx_spot", "ping"),
        ("deribit_derivatives", '{"id":1,"method":"public/test","params":{}}'),
        (
            "deribit_derivatives",
            '{"id":1,"method":"public/set_heartbeat","params":{"interval":30}}',
        ),
    ],
)
async def test_heartbeats_are_not_answered(
    venue: str, beat: str, autojump_clock: MockClock
) -> None:
    """Everything else is."""
    desk = Desk(market(venue))
    desk.exchange.faults.lose_answers(5, "heartbeat")
    assert desk.ask(beat).texts == ()
    assert desk.ask(COMMANDS[venue][0]).texts
    await trio.sleep(5)
    assert desk.ask(beat).texts


async def test_answers_have_another_form(autojump_clock: MockClock) -> None:
    """And mean the same."""
    binance, deribit = Desk(market("binance_spot")), Desk(market("deribit_derivatives"))
    for desk in (binance, deribit):
        desk.exchange.faults.odd_answers(5, "text_id")
    assert binance.told(COMMANDS["binance_spot"][0]) == [{"id": "7", "result": None}]
    assert deribit.told(COMMANDS["deribit_derivatives"][0])[0]["id"] == "7"
    for desk in (binance, deribit):
        desk.exchange.faults.odd_answers(5, "empty_result")
    assert binance.told(COMMANDS["binance_spot"][0]) == [{"id": 7, "result": []}]
    assert deribit.told(COMMANDS["deribit_derivatives"][0])[0]["result"] == []
    okx = Desk(market("okx_spot"))
    okx.exchange.faults.odd_answers(5)
    assert okx.told(COMMANDS["okx_spot"][1])[0]["status"] == 200
    assert okx.ask("ping").texts == ("pong",)
    await trio.sleep(5)
    assert "status" not in okx.told(COMMANDS["okx_spot"][1])[0]


def test_every_exchange_can_refuse() -> None:
    """Each in its own words."""
    client = Client()
    for venue, make in SKINS.items():
        skin = make(Options())
        for name, (subscribe, _) in COMMANDS.items():
            if venue.split("_")[0] == name.split("_")[0]:
                assert "123" in skin.refusal(subscribe, ("123", "no"), "", client).texts[0]
