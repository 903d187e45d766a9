"""Binance spot's protocol without sockets: what URLs, commands and flaws mean."""

from typing import Any

import msgspec
import pytest

from marketprism.simulator.binance import BinanceSpot
from marketprism.simulator.events import Trade, Update
from marketprism.simulator.skin import Client, Flaw, Opening

SKIN = BinanceSpot()


@pytest.mark.parametrize(
    ("target", "opening"),
    [
        ("/ws", Opening((), enveloped=False)),
        ("/stream", Opening((), enveloped=True)),
        ("/ws/btcusdt@trade", Opening(("btcusdt@trade",), enveloped=False)),
        ("/ws/a@trade/b@depth@100ms", Opening(("a@trade", "b@depth@100ms"), enveloped=False)),
        ("/stream?streams=a@trade/b@trade", Opening(("a@trade", "b@trade"), enveloped=True)),
        ("/stream?streams=a%40trade%2Fb%40trade", Opening(("a@trade", "b@trade"), enveloped=True)),
        ("/stream?timeUnit=MILLISECOND&streams=a@trade", Opening(("a@trade",), enveloped=True)),
        ("/ws/%E5%B8%81usdt@trade", Opening(("币usdt@trade",), enveloped=False)),
        ("/", None),
        ("/other", None),
        ("/ws/btcusdt", None),
    ],
)
def test_a_url_names_streams(target: str, opening: Opening | None) -> None:
    """`/ws` is bare, `/stream` names the stream of each message, others there are none."""
    assert SKIN.opening(target) == opening


def command(text: str, streams: tuple[str, ...] = ()) -> Any:
    """The answer to a command."""
    (answer,) = SKIN.command(text, Client(streams)).texts
    return msgspec.json.decode(answer)


def test_subscribe_and_unsubscribe_are_acknowledged() -> None:
    """The answer is a null result with the id of the command, of whatever type it was."""
    reply = SKIN.command('{"method":"SUBSCRIBE","params":["a@trade"],"id":7}', Client())
    assert reply.texts == ('{"result":null,"id":7}',)
    assert (reply.add, reply.remove) == (("a@trade",), ())
    leaving = '{"method":"UNSUBSCRIBE","params":["a@trade"],"id":"x"}'
    reply = SKIN.command(leaving, Client(("a@trade",)))
    assert reply.texts == ('{"result":null,"id":"x"}',)
    assert (reply.add, reply.remove) == ((), ("a@trade",))


def test_subscriptions_are_listed() -> None:
    """LIST_SUBSCRIPTIONS answers with the streams of the connection."""
    answer = command('{"method":"LIST_SUBSCRIPTIONS","id":3}', ("a@trade", "b@trade"))
    assert answer == {"result": ["a@trade", "b@trade"], "id": 3}


@pytest.mark.parametrize(
    ("text", "code", "ident"),
    [
        ("{not json", 3, None),
        ("[]", 2, None),
        ('{"params":["a@trade"],"id":1}', 2, 1),
        ('{"method":"SHOUT","params":["a@trade"],"id":1}', 2, 1),
        ('{"method":"SUBSCRIBE","id":1}', 2, 1),
        ('{"method":"SUBSCRIBE","params":"a@trade","id":1}', 2, 1),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, 1),
        ('{"method":"SUBSCRIBE","params":["nostream"],"id":1}', 2, 1),
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":1.5}', 2, None),
        ('{"method":["SUBSCRIBE"],"params":["a@trade"],"id":1}', 2, 1),
    ],
)
def test_a_malformed_command_is_an_error(text: str, code: int, ident: object) -> None:
    """An error has a code, a message and the id, and changes no subscription."""
    reply = SKIN.command(text, Client())
    answer = msgspec.json.decode(reply.texts[0])
    assert answer["error"]["code"] == code
    assert answer["error"]["msg"]
    assert answer["id"] == ident
    assert reply.add == reply.remove == ()


def test_more_streams_than_a_connection_may_have_are_an_error() -> None:
    """The 1025th stream of a connection is refused."""
    streams = tuple(f"s{n}@trade" for n in range(1024))
    text = '{"method":"SUBSCRIBE","params":["one@trade"],"id":1}'
    assert command(text, streams)["error"]["code"] == 2
    assert command(text, streams[1:])["result"] is None


def test_what_the_market_says_is_read_back() -> None:
    """A message made from an event is one the player would read as that event."""
    update = Update("BTCUSDT", 5, 9, [("1.00", "2.00")], [("3.00", "0.00")], 1_700_000_000_100)
    message = SKIN.message(update)
    assert message.stream == "btcusdt@depth@100ms"
    assert SKIN.recorded(message.text) == message
    assert SKIN.recorded(SKIN.envelope(message.stream, message.text)) == message


@pytest.mark.parametrize("flaw", ["unknown_event", "negative_price", "text_price"])
@pytest.mark.parametrize("seen", [True, False])
def test_flawed_messages_are_well_formed_json(flaw: Flaw, seen: bool) -> None:
    """A flaw is in the meaning, not in the syntax; a flawed trade keeps the id of the real one."""
    like = SKIN.message(Trade("BTCUSDT", 77, "5.00", "1.00", False, 1)) if seen else None
    message = SKIN.flawed(flaw, like, "BTCUSDT")
    assert message.stream == "btcusdt@trade"
    payload = msgspec.json.decode(message.text)
    assert payload["s"] == "BTCUSDT"
    if flaw != "unknown_event":
        assert payload["e"] == "trade"
        assert payload["t"] == (77 if seen else 0)
        assert payload["p"].startswith("-") or payload["p"] == "abc"
