"""Mutants of what happens to records once they are read, and to connections."""

from itertools import count
from typing import Any

import attrs
import pytest
import trio
from mutants import mutant

from marketprism.errors import Transient
from marketprism.feeds import connection, continuity, feed
from marketprism.feeds.planning import PlannedShard
from marketprism.gaps.pending import PendingGap
from marketprism.outbox.outbox import Outbox
from marketprism.pipeline.outlet import Outlet
from marketprism.records import Gap
from marketprism.sinks import publishing
from marketprism.streams.cursor import Cursor
from marketprism.supervise import Attempt, Conclusion, Ended

# The sink's side


@mutant(None, "acks_lost", "broker_killed", "broker_stalled", "cut")
def every_send_has_a_new_message_id(patch: pytest.MonkeyPatch) -> None:
    """The server cannot know a message that is sent again."""
    take, sends = Outbox.take, count()

    def taken(outbox: Outbox, most: int) -> Any:
        batch = take(outbox, most)
        return [(n, attrs.evolve(m, msg_id=f"{m.msg_id}/{next(sends)}")) for n, m in batch]

    patch.setattr(Outbox, "take", taken)


@mutant(None, "acks_lost", "broker_killed", "broker_stalled", "cut")
def what_was_not_acknowledged_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """A new connection goes on with what was never sent."""

    def rewind(outbox: Outbox) -> None:
        for sequence, _ in list(outbox.log.window.in_flight):
            outbox.acknowledge(sequence)

    patch.setattr(Outbox, "rewind", rewind)


@mutant(None, "acks_lost", "broker_killed", "broker_stalled", "cut")
def what_was_not_acknowledged_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The same, but it stays in the outbox for good."""
    patch.setattr(Outbox, "rewind", lambda outbox: None)


@mutant(None, "acks_lost", "broker_killed", "broker_stalled", "cut")
def what_was_not_acknowledged_goes_to_the_end(patch: pytest.MonkeyPatch) -> None:
    """It is sent again behind what came after it."""

    def rewind(outbox: Outbox) -> None:
        outbox.log.window.waiting += outbox.log.window.in_flight.rewind()

    patch.setattr(Outbox, "rewind", rewind)


@mutant(None, "acks_lost", "broker_killed", "broker_killed", "broker_killed")
def the_stream_is_not_asked_what_it_holds(patch: pytest.MonkeyPatch) -> None:
    """The broker has forgotten ids of what it stored."""

    async def settle(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(publishing, "dedupe", settle)


@mutant("binance_spot", "broker_killed", "broker_stalled", tight=True)
def a_full_outbox_drops(patch: pytest.MonkeyPatch) -> None:
    """Where it should make the channel wait."""
    append = Outbox.append

    def appended(outbox: Outbox, messages: Any) -> None:
        if not outbox.full:
            append(outbox, messages)

    async def room(_outbox: Outbox) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(Outbox, "append", appended)
    patch.setattr(Outbox, "room", room)


@mutant("binance_spot", "broker_killed", "broker_stalled", tight=True)
def overflow_is_not_confessed(patch: pytest.MonkeyPatch) -> None:
    """What does not fit into the channel is gone."""
    patch.setattr(Outlet, "_lose", lambda *_: None)


@mutant("binance_spot", "broker_killed", "broker_stalled", tight=True)
def updates_after_an_overflow_are_not_withheld(patch: pytest.MonkeyPatch) -> None:
    """A book's updates go on after a hole."""
    patch.setattr(Outlet, "_withheld", lambda *_: False)


@mutant("binance_spot", "broker_killed", "broker_stalled", "cut", "skip", tight=True, first=4)
def a_gap_that_does_not_fit_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What it spoke of is in no gap."""
    add = PendingGap.add

    def added(loss: PendingGap, record: Any) -> None:
        if not isinstance(record, Gap):
            add(loss, record)

    patch.setattr(PendingGap, "add", added)


# What was lost with a connection


@mutant()
def a_disconnect_is_no_gap(patch: pytest.MonkeyPatch) -> None:
    """A new connection goes on as if nothing had been."""
    lose = Cursor.lose

    def lost(cursor: Cursor, reason: Any, *more: Any) -> None:
        if reason != "disconnect":
            lose(cursor, reason, *more)

    patch.setattr(Cursor, "lose", lost)


@mutant("binance_spot")
def a_new_connection_knows_nothing_of_the_old(patch: pytest.MonkeyPatch) -> None:
    """Cursors are not carried over."""
    open_ = PlannedShard.open
    patch.setattr(PlannedShard, "open", lambda shard, _, *more: open_(shard, {}, *more))


@mutant()
def a_feed_that_ended_stays_ended(patch: pytest.MonkeyPatch) -> None:
    """Nobody dials again."""

    async def once(_name: str, attempt: Any, _policy: Any, ended: Any, *_: Any) -> None:
        try:
            await attempt(Attempt())
        except* Transient as group:
            ended(Ended(Conclusion.REFUSED, str(group.exceptions[0])))
            await trio.sleep_forever()

    patch.setattr(feed, "supervise", once)


@mutant("binance_derivatives", "hole")
def nobody_watches_the_pings(patch: pytest.MonkeyPatch) -> None:
    """A dead connection is noticed by its silence only."""

    async def ping(*_: Any) -> None:
        await trio.sleep_forever()

    patch.setattr(connection.Connection, "_ping", ping)


@mutant("okx_derivatives")
def the_end_of_a_gap_is_not_told(patch: pytest.MonkeyPatch) -> None:
    """For streams without numbers."""
    accept = continuity.accept_uncounted

    def accepted(state: Any, event_time: Any, now: Any, name: str) -> None:
        accept(state, event_time, now, name)

    patch.setattr(continuity, "accept_uncounted", accepted)
