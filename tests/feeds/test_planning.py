"""Which streams share a connection, whatever the exchange."""

from collections.abc import Mapping, Sequence

import pytest

from marketprism.feeds.planning import PlannedShard, plan, up_to
from marketprism.feeds.venue import Session, Shard
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription


class Begun(Exception):
    """A session was asked for."""


def begin(
    name: str, subscriptions: Sequence[Subscription], cursors: Mapping[Stream, Cursor], retry: float
) -> Session:
    """What a shard opens its sessions with."""
    raise Begun(name, subscriptions, cursors, retry)


def subscriptions(*native_ids: str) -> list[Subscription]:
    """Trades and the book of each."""
    return [
        Subscription(data_type, Instrument("elsewhere", "spot", each, each, each, "USDT"))
        for each in native_ids
        for data_type in (DataType.TRADE, DataType.ORDERBOOK)
    ]


def planned(*native_ids: str, current: Sequence[Shard] = (), room: int = 4) -> list[Shard]:
    """The connections of these."""
    return plan("elsewhere/", subscriptions(*native_ids), current, up_to(room), begin)


def carried(shards: Sequence[Shard]) -> dict[str, list[str]]:
    """The instruments of each connection."""
    return {
        shard.id: list(
            dict.fromkeys(subscription.instrument.native_id for subscription in shard.subscriptions)
        )
        for shard in shards
    }


def test_connections_are_filled_one_by_one_and_an_instrument_is_on_one() -> None:
    """Also where half of it would fit."""
    expected = {"elsewhere/0": ["A", "B"], "elsewhere/1": ["C"]}
    assert carried(planned("A", "B", "C")) == expected
    assert carried(planned("A", "B", "C", room=5)) == expected


def test_what_is_placed_stays_and_what_comes_takes_the_room_that_is_left() -> None:
    """A connection that has lost all of its streams keeps its number."""
    before = planned("A", "B", "C", "D")
    assert carried(planned("A", "C", "E", current=before)) == {
        "elsewhere/0": ["A", "E"],
        "elsewhere/1": ["C"],
    }
    assert carried(planned("D", current=before)) == {"elsewhere/0": [], "elsewhere/1": ["D"]}


def test_connections_of_another_prefix_are_none_of_these() -> None:
    """They carry what they do."""
    other = plan("elsewhere/public/", subscriptions("A"), (), up_to(4), begin)
    assert carried(plan("elsewhere/market/", subscriptions("A"), other, up_to(4), begin)) == {
        "elsewhere/market/0": ["A"]
    }


def test_a_session_begins_with_what_its_shard_was_given() -> None:
    """Id and wants, and the cursors as they are."""
    (shard,) = planned("A")
    cursors = {subscription.stream: Cursor() for subscription in shard.subscriptions}
    with pytest.raises(Begun) as begun:
        shard.open(cursors, 7.0)
    assert begun.value.args == ("elsewhere/0", tuple(subscriptions("A")), cursors, 7.0)
    assert isinstance(shard, PlannedShard)
