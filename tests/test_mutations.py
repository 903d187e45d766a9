"""Whatever an exchange may send: frames mutated at random, by the thousand.

`MARKETPRISM_MUTATIONS` says how many a venue (`nox -s mutations`: 200,000).
"""

import json
import os
import random
from collections import Counter
from typing import Any

import pytest
from cards import CARDS, Card
from desk import Desk, confirmations

from marketprism.feeds import OFFERS
from marketprism.feeds.venue import Close, Fetch, Reject, Send
from marketprism.wire import encode

pytestmark = pytest.mark.once

FRAMES = int(os.environ.get("MARKETPRISM_MUTATIONS", "3000"))
LIFE = 100
"""Frames that one session gets; then a fresh one, so that all states are met."""
VALUES: list[Any] = [
    *(None, True, -1, 0, 1e308, 2**53, 2**63, 2**64, 10**400, "", "NaN", "Infinity", "-1", "1e9"),
    *("1e999999999", "1_000", "١٢٣", "9" * 5000, [], {}, [[]], [None], {"a": {}}, "\x00", "é"),
]


def mutated(frame: bytes, dice: random.Random) -> bytes:
    """Bytes changed, cut, doubled or put in; or a value of the JSON exchanged."""
    at, end = sorted((dice.randrange(len(frame) + 1), dice.randrange(len(frame) + 1)))
    match dice.randrange(12):
        case 0:
            return frame[:at]
        case 1:
            return frame[:at] + dice.randbytes(dice.randrange(1, 5)) + frame[at:]
        case 2:
            return frame[:at] + dice.randbytes(1) + frame[at + 1 :]
        case 3:
            return frame[:at] + frame[end:]
        case 4:
            return frame[:end] + frame[at:]
        case 5:
            return frame[:at] + b"[" * dice.choice((1, 10, 50_000)) + frame[at:]
        case _:
            return json.dumps(exchanged(json.loads(frame), dice)).encode()


def exchanged(tree: Any, dice: random.Random) -> Any:
    """The same with one value or key exchanged, anywhere within."""
    if isinstance(tree, dict) and tree and dice.random() < 0.8:
        key = dice.choice(list(tree))
        if dice.random() < 0.1:
            return {(f"{name}x" if name == key else name): value for name, value in tree.items()}
        return {**tree, key: exchanged(tree[key], dice)}
    if isinstance(tree, list) and tree and dice.random() < 0.8:
        index = dice.randrange(len(tree))
        return [*tree[:index], exchanged(tree[index], dice), *tree[index + 1 :]]
    return dice.choice(VALUES)


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
        assert all(isinstance(step, Reject | Send | Fetch | Close) for step in turn.steps)
        rejected = any(isinstance(step, Reject) for step in turn.steps)
        outcome["rejected" if rejected else "accepted"] += 1
        outcome["closed"] += any(isinstance(step, Close) for step in turn.steps)
        for record in turn.records:
            encode(record)
    print(dict(outcome))
    assert outcome["accepted"] + outcome["rejected"] == FRAMES
    assert min(outcome["accepted"], outcome["rejected"]) > FRAMES * 0.01
    assert outcome["closed"] <= FRAMES * 0.001


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
        assert all(isinstance(step, Reject) for step in turn.steps)
        for record in turn.records:
            encode(record)
