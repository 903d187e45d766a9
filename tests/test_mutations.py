"""Whatever an exchange may send: frames mutated at random, by the thousand, and numbers at every
limit in every place.

`MARKETPRISM_MUTATIONS` says how many a venue (`nox -s mutations`: 200,000).
"""

import json
import os
import random
from collections import Counter
from typing import Any

import attrs
import pytest
from cards import CARDS, Card
from desk import Desk, confirmations
from mutations import LIMITS, NUMBERS, OTHERS, at, mutated, paths, written

from marketprism.bounds import LARGEST, LATEST
from marketprism.feeds import OFFERS
from marketprism.feeds.actions import Close, Fetch, Output, Park, Reject, Send
from marketprism.gaps.pending import PendingGap
from marketprism.outbox.peek import peek
from marketprism.reading import decode
from marketprism.records import DataType, Gap
from marketprism.times import time_value
from marketprism.wire import encode

pytestmark = pytest.mark.once

FRAMES = int(os.environ.get("MARKETPRISM_MUTATIONS", "3000"))
LIFE = 100
"""Frames that one session gets; then a fresh one, so that all states are met."""


def texts(card: Card) -> list[bytes]:
    """What the exchange sends to whoever asked for the card's data."""
    messages = [*card.before, card.event, *confirmations(COMMANDS[card.venue])]
    return [json.dumps(message).encode() for message in messages]


COMMANDS: dict[str, Any] = {
    "binance_spot": {"method": "SUBSCRIBE", "id": 1},
    "binance_derivatives": {"method": "SUBSCRIBE", "id": 1},
    "okx_spot": {"op": "subscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]},
    "okx_derivatives": {"op": "subscribe", "args": [{"channel": "trades", "instId": "x"}]},
    "deribit_derivatives": {"method": "public/subscribe", "id": 2, "params": {"channels": []}},
}


def tell(turn: Output) -> None:
    """Every record can be told, and believed: encoded, read back, and confessed were it lost."""
    for record in turn.records:
        message = encode(record)
        fields = json.loads(message.payload)
        assert decode(message.payload).timestamp == record.timestamp
        assert "\n" not in message.msg_id
        for name, value in fields.items():
            if name == "timestamp" or name.endswith("_time"):
                assert (time_value(value) or 0) <= LATEST * 1_000_000, name
            elif name.endswith("_id") and str(value).isdecimal():
                assert int(value) <= LARGEST, name
        stream = record.affected if isinstance(record, Gap) else DataType(record.data_type)
        for lost in (record, peek(message)):
            loss = PendingGap(
                record.instrument, stream, record.collected_at, "outbox", "it was lost"
            )
            loss.add(lost)
            encode(loss.gap(record.collected_at))


@pytest.mark.parametrize("venue", OFFERS)
def test_mutated_frames_are_accepted_or_rejected_and_nothing_else(venue: str) -> None:
    """No exception; accepted and rejected are all that was fed; what is accepted can be told."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    cards = [card for card in CARDS if card.venue == venue and Desk(card).session is not None]
    outcome: Counter[str] = Counter()
    for number in range(FRAMES):
        if number % LIFE == 0:
            card = dice.choice(cards)
            desk, frames = Desk(card), texts(card)
            desk.hear(*card.before)
        turn = desk.hear(mutated(dice.choice(frames), dice))
        assert all(isinstance(step, Reject | Send | Fetch | Close) for step in turn.actions)
        rejected = any(isinstance(step, Reject) for step in turn.actions)
        outcome["rejected" if rejected else "accepted"] += 1
        outcome["closed"] += any(isinstance(step, Close) for step in turn.actions)
        tell(turn)
    print(dict(outcome))
    assert outcome["accepted"] + outcome["rejected"] == FRAMES
    assert min(outcome["accepted"], outcome["rejected"]) > FRAMES * 0.01
    assert outcome["closed"] <= FRAMES * 0.001


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_whatever_stands_anywhere_is_borne(card: Card) -> None:
    """A number at any limit, any other value, as such and as text, in each place of each message,
    alone and beside the true one: no exception, and what is accepted can be told.
    """
    for path in paths(card.event):
        for value in (*LIMITS, *map(str, LIMITS), *NUMBERS, *OTHERS):
            desk = Desk(card)
            desk.hear(*card.before)
            for frame in (
                written(card.event, path, value),
                written(card.event, path, at(card.event, path), double=value),
                json.dumps(card.event).encode(),
            ):
                turn = desk.hear(frame)
                assert all(isinstance(step, Reject | Send | Fetch | Close) for step in turn.actions)
                tell(turn)


SNAPSHOTS = [card for card in CARDS if card.snapshot is not None]


@pytest.mark.parametrize("card", SNAPSHOTS, ids=lambda card: card.name)
def test_whatever_stands_anywhere_in_a_snapshot_is_borne(card: Card) -> None:
    """What is fetched over REST, and what then follows it on the wire."""
    for path in paths(card.snapshot):
        for value in (*LIMITS, *map(str, LIMITS), *NUMBERS, *OTHERS):
            body = json.loads(written(card.snapshot, path, value))
            desk = Desk(attrs.evolve(card, snapshot=body))
            turn = desk.hear(card.event)
            tell(Output(desk.opened + turn.records))


@pytest.mark.parametrize("venue", [venue for venue in OFFERS if "deriv" in venue])
def test_mutated_answers_of_polls_are_accepted_or_rejected(venue: str) -> None:
    """The same for what is asked over REST."""
    cards = [card for card in CARDS if card.venue == venue and Desk(card).poll is not None]
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for number in range(FRAMES // 10 if cards else 0):
        card = cards[number % len(cards)]
        desk = Desk(card)
        turn = desk.hear(mutated(json.dumps(card.event).encode(), dice))
        assert all(isinstance(step, Reject | Park) for step in turn.actions)
        tell(turn)
