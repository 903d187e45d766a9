"""A stamp of a time to come blocks nothing: every venue, every data type, at the session."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from cards import CARDS, Card
from desk import START, Desk
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism.clock import Timestamp
from marketprism.records import DataType, Gap, Record
from marketprism.wire import encode

MILLISECOND = 1_000_000
DAY = 86_400_000
"""Milliseconds."""
ROW = 300_000
FAR = 10**15
EVERY = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)

Maker = Callable[[Any, int, int], Any]
"""The event of a number and a time, milliseconds, like the card's."""


def with_fields(names: Mapping[str, Callable[[int, int], Any]], event: Any, n: int, at: int) -> Any:
    """A flat event with these fields."""
    return event | {name: value(n, at) for name, value in names.items()}


def with_element(
    names: Mapping[str, Callable[[int, int], Any]], event: Any, n: int, at: int
) -> Any:
    """A push of OKX with one element."""
    return event | {"data": [with_fields(names, event["data"][0], n, at)]}


def number(n: int, _at: int) -> Any:
    """Its number."""
    return n


def text(n: int, _at: int) -> str:
    """The same as text."""
    return str(n)


def time(_n: int, at: int) -> Any:
    """Its time."""
    return at


def time_text(_n: int, at: int) -> str:
    """The same as text."""
    return str(at)


def forced(event: Any, n: int, at: int) -> Any:
    """Binance's liquidation."""
    return event | {"E": at, "o": event["o"] | {"T": at, "q": f"{n}.5"}}


def detailed(event: Any, n: int, at: int) -> Any:
    """OKX's liquidation."""
    row = event["data"][0]
    details = [row["details"][0] | {"ts": str(at), "sz": str(n)}]
    return event | {"data": [row | {"details": details}]}


def volatile(event: Any, _n: int, at: int) -> Any:
    """A value of Deribit's index."""
    params = event["params"]
    return event | {"params": params | {"data": params["data"] | {"timestamp": at}}}


def rows(event: Any, *times: int) -> Any:
    """An answer with the rows of those times."""
    if isinstance(event, dict):
        return event | {"data": [[str(at), "0.97"] for at in reversed(times)]}
    return [event[0] | {"timestamp": at} for at in times]


BOOK = {"E": time, "U": lambda n, _: 100 + n, "u": lambda n, _: 100 + n}
MAKERS: dict[tuple[str, DataType], Maker] = {
    ("binance_spot", DataType.ORDERBOOK): partial(with_fields, BOOK),
    ("binance_spot", DataType.TRADE): partial(with_fields, {"E": time, "T": time, "t": number}),
    ("binance_derivatives", DataType.ORDERBOOK): partial(
        with_fields, BOOK | {"T": time, "pu": lambda n, _: 99 + n}
    ),
    ("binance_derivatives", DataType.TRADE): partial(
        with_fields, {"E": time, "T": time, "a": number, "f": number, "l": number}
    ),
    ("binance_derivatives", DataType.FUNDING_RATE): partial(
        with_fields, {"E": time, "r": lambda n, _: f"0.{n}1"}
    ),
    ("binance_derivatives", DataType.LIQUIDATION): forced,
    ("binance_derivatives", DataType.OPEN_INTEREST): partial(with_fields, {"time": time}),
    ("okx", DataType.ORDERBOOK): partial(
        with_element,
        {"ts": time_text, "seqId": lambda n, _: 10 + n, "prevSeqId": lambda n, _: 9 + n},
    ),
    ("okx", DataType.TRADE): partial(with_element, {"ts": time_text, "tradeId": text}),
    ("okx_derivatives", DataType.FUNDING_RATE): partial(
        with_element, {"ts": time_text, "fundingRate": lambda n, _: f"0.{n}1"}
    ),
    ("okx_derivatives", DataType.OPEN_INTEREST): partial(with_element, {"ts": time_text}),
    ("okx_derivatives", DataType.LIQUIDATION): detailed,
    ("deribit_derivatives", DataType.VOLATILITY_INDEX): volatile,
}
NUMBERED = (DataType.ORDERBOOK, DataType.TRADE)
RATIOS = (DataType.LSR_TOP_POSITION, DataType.LSR_ALL_ACCOUNT)


class Said:
    """A card's offer, and an exchange that goes on, now and then with a time to come."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.desk = Desk(card)
        self.desk.hear(*card.before)
        self.step = ROW if card.data_type in RATIOS else 1_000
        exchange = card.venue.partition("_")[0]
        known = MAKERS.get((card.venue, card.data_type)) or MAKERS.get((exchange, card.data_type))
        self.make = known or (lambda event, _n, at: rows(event, *self.rows, at))
        self.rows: list[int] = []
        """The times of the rows that there are."""
        self.place = 0
        self.ids: list[str] = []

    @property
    def at(self) -> int:
        """The exchange's time, milliseconds."""
        ticks = self.desk.ticks
        now = Timestamp(START + ticks * MILLISECOND, ticks * MILLISECOND)
        return now.wall // MILLISECOND // self.step * self.step

    def hear(self, n: int, at: int) -> list[Record]:
        """An event; what is published but for gaps."""
        event = self.make(self.card.event, n, at)
        if at == self.at:
            self.rows.append(at)
        records = self.desk.hear(json.dumps(event).encode()).records
        self.ids += [encode(record).msg_id for record in records]
        return [record for record in records if not isinstance(record, Gap)]

    def go_on(self) -> list[Record]:
        """The next event, as it should be."""
        self.place += 1
        self.desk.ticks += self.step
        return self.hear(self.place, self.at)

    def stray(self, *, jumps: bool, ahead: int = DAY) -> list[Record]:
        """One with a time to come: in the place of the next or, where it jumps, beside it."""
        if not jumps and self.card.data_type in NUMBERED:
            self.place += 1
            self.desk.ticks += self.step
            return self.hear(self.place, self.at + ahead)
        return self.hear(self.place + 1 + FAR, self.at + ahead)


def the_right_one(said: Said, records: Sequence[Record]) -> bool:
    """Only what was said just now is published."""
    return [record.timestamp for record in records] == [said.at * MILLISECOND]


@EVERY
@pytest.mark.parametrize("jumps", [False, True], ids=["time", "time and id"])
def test_what_comes_after_a_stamp_of_a_time_to_come_is_published(card: Card, jumps: bool) -> None:
    """Each once, without a gap; the stray itself once, and counted."""
    said = Said(card)
    assert all(the_right_one(said, said.go_on()) for _ in range(5))
    before = said.desk.cursor.event_time
    told = said.stray(jumps=jumps)
    # An update that does not chain is never published.
    kept = [] if jumps and card.data_type is DataType.ORDERBOOK else [(said.at + DAY) * MILLISECOND]
    assert [record.timestamp for record in told] == kept
    assert said.desk.cursor.event_time == before
    assert said.desk.cursor.ahead.count == 1
    for _ in range(5):
        assert the_right_one(said, said.go_on())
    assert said.desk.cursor.event_time == said.at * MILLISECOND
    assert not any(each.startswith("gap") for each in said.ids)
    assert len(set(said.ids)) == len(said.ids)


@EVERY
def test_it_is_published_once_however_often_it_is_told(card: Card) -> None:
    """And so is another stamp of a time to come."""
    said = Said(card)
    said.go_on()
    kept = int(card.data_type is not DataType.ORDERBOOK)
    assert [len(said.stray(jumps=True)) for _ in range(3)] == [kept, 0, 0]
    assert the_right_one(said, said.go_on())
    assert len(set(said.ids)) == len(said.ids)


@EVERY
@settings(max_examples=examples(25), deadline=None)
@given(
    strays=st.lists(
        st.tuples(st.integers(0, 9), st.booleans(), st.sampled_from([61_000, DAY, 9_000 * DAY])),
        max_size=6,
    )
)
def test_wherever_such_stamps_are_all_else_is_published(
    card: Card, strays: Sequence[tuple[int, bool, int]]
) -> None:
    """Once, in its order, and without a gap; also where the first one has such a stamp."""
    said = Said(card)
    for place in range(10):
        for where, jumps, ahead in strays:
            if where == place:
                # The first number there is cannot jump.
                said.stray(jumps=jumps and place > 0, ahead=ahead)
        assert the_right_one(said, said.go_on())
    said.go_on()
    assert not any(each.startswith("gap") for each in said.ids)
    assert len(set(said.ids)) == len(said.ids)


@EVERY
def test_where_our_clock_is_slow_all_is_published(card: Card) -> None:
    """Once, though every stamp is of a time to come: at first, and when that is known."""
    said = Said(card)
    hour, heard = 3_600_000, 0
    for place in range(60):
        said.desk.ticks -= hour
        said.place += 1
        said.desk.ticks += said.step
        at = said.at + hour // said.step * said.step
        records = said.hear(said.place, at)
        heard += the_right_one(said, records) or [r.timestamp for r in records] == [at * 10**6]
        said.desk.cursor.clock.learn(at * MILLISECOND, said.desk.now())
        said.desk.ticks += hour - 1
        assert heard == place + 1
    assert not any(each.startswith("gap") for each in said.ids)
    assert len(set(said.ids)) == len(said.ids)
    assert said.desk.cursor.event_time == at * MILLISECOND
