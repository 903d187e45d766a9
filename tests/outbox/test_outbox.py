"""The outbox against a naive model, and its waiting."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE
from trio.testing import wait_all_tasks_blocked

from marketprism.board.board import Board
from marketprism.board.rows import QueueRow
from marketprism.instruments import Instrument
from marketprism.sinks import Outbox
from marketprism.wire import Message

INSTRUMENT = Instrument("okx", "spot", "BTC-USDT", "BTC-USDT")


def named(*names: str) -> list[Message]:
    """Messages of subjects, `a1`: the message `1` of the subject `a`."""
    return [Message(n[0], n[1:], b"x", INSTRUMENT, "trade") for n in names]


def messages(*sizes: int) -> list[Message]:
    """Messages with payloads of these sizes."""
    return [Message("subject", "id", b"x" * size, INSTRUMENT, "trade") for size in sizes]


def number(place: int) -> int:
    """The sequence number of the message that was appended there: between two is room for a gap."""
    return 2 * place + 2


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.integers(0, 9), max_size=5)),
        st.tuples(st.just("take"), st.integers(0, 5)),
        st.tuples(st.just("acknowledge"), st.integers(0, 30)),
        st.tuples(st.just("rewind"), st.none()),
    ),
    max_size=60,
)


@given(OPERATIONS)
def test_any_history_agrees_with_a_naive_log(operations: list[tuple[str, object]]) -> None:
    """What waits, what is out and what is held are those of a plain list of states."""
    row = QueueRow()
    outbox = Outbox(10, 50, row)
    log: list[tuple[Message, str]] = []
    for operation, argument in operations:
        if operation == "append":
            assert isinstance(argument, list)
            new = messages(*argument)
            outbox.append(new)
            log += [(message, "waits") for message in new]
        elif operation == "take":
            assert isinstance(argument, int)
            waits = [n for n, (_, state) in enumerate(log) if state == "waits"][:argument]
            assert outbox.take(argument) == [(number(n), log[n][0]) for n in waits]
            for n in waits:
                log[n] = (log[n][0], "out")
        elif operation == "acknowledge":
            assert isinstance(argument, int)
            out = argument < len(log) and log[argument][1] == "out"
            assert (outbox.acknowledge(number(argument)) is not None) == out
            if out:
                log[argument] = (log[argument][0], "safe")
        else:
            outbox.rewind()
            log = [(message, "waits" if state == "out" else state) for message, state in log]
        held = [message for message, state in log if state != "safe"]
        assert row.held == len(held)
        assert row.held_bytes == sum(len(message.payload) for message in held)
        assert outbox.full == (row.held >= 10 or row.held_bytes >= 50)


def test_rewinding_resends_in_order_what_nobody_acknowledged() -> None:
    """Those acknowledged in the middle are not sent again; the others keep their numbers."""
    outbox = Outbox(10, 1000, QueueRow())
    outbox.append(messages(1, 2, 3, 4, 5))
    outbox.take(4)
    outbox.acknowledge(number(1))
    outbox.rewind()
    assert [each for each, _ in outbox.take(9)] == [number(n) for n in (0, 2, 3, 4)]


def test_it_is_drained_when_closed_and_all_is_acknowledged() -> None:
    """Neither closing nor acknowledging alone is the end."""
    outbox = Outbox(10, 1000, QueueRow())
    outbox.append(messages(1))
    seen = []
    for step in (outbox.close, lambda: outbox.take(1), lambda: outbox.acknowledge(number(0))):
        step()
        seen.append((outbox.spent, outbox.drained))
    assert seen == [(False, False), (True, False), (True, True)]


async def test_the_pump_waits_for_room() -> None:
    """A full outbox lets nobody through until something in it is acknowledged."""
    outbox = Outbox(2, 1000, QueueRow())
    outbox.append(messages(1, 1))
    went_on = trio.Event()

    async def pump() -> None:
        await outbox.room()
        went_on.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump)
        await wait_all_tasks_blocked()
        assert not went_on.is_set()
        outbox.take(1)
        outbox.acknowledge(number(0))
        with trio.fail_after(PATIENCE):
            await went_on.wait()


async def test_the_sink_waits_for_something_to_take_or_the_end() -> None:
    """`available` returns on an append, on a rewind, and when the outbox is closed."""
    for wake in ("append", "rewind", "close"):
        outbox = Outbox(2, 1000, QueueRow())
        outbox.append(messages(1))
        outbox.take(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.available)
            await wait_all_tasks_blocked()
            assert nursery.child_tasks
            if wake == "append":
                outbox.append(messages(1))
            elif wake == "rewind":
                outbox.rewind()
            else:
                outbox.close()
            with trio.fail_after(PATIENCE):
                await wait_all_tasks_blocked()


def doubtful(*names: str, taken: int = 99) -> Outbox:
    """An outbox of these messages, so many of which were taken in vain."""
    outbox = Outbox(99, 1000, QueueRow())
    outbox.append(named(*names))
    outbox.take(taken)
    outbox.rewind()
    return outbox


async def settled(outbox: Outbox, subject: str, msg_id: str | None) -> tuple[int, list[str]]:
    """How many were stored, and what is still to be sent."""
    count = await outbox.forget_stored(subject, msg_id)
    return count, [message.subject + message.msg_id for _, message in outbox.take(99)]


@pytest.mark.parametrize(
    ("msg_id", "expected"),
    [
        ("1", (1, ["b1", "a2", "b2", "a3"])),
        ("3", (3, ["b1", "b2"])),
        ("9", (0, ["a1", "b1", "a2", "b2", "a3"])),
        (None, (0, ["a1", "b1", "a2", "b2", "a3"])),
    ],
)
async def test_what_the_stream_shows_to_be_stored_is_forgotten(
    msg_id: str | None, expected: tuple[int, list[str]]
) -> None:
    """Of that subject, up to its last message in the stream; the rest stays in order."""
    assert await settled(doubtful("a1", "b1", "a2", "b2", "a3"), "a", msg_id) == expected


async def test_doubt_is_about_what_was_taken_in_vain_and_ends_when_settled() -> None:
    """What was acknowledged or never taken is in no doubt."""
    outbox = Outbox(99, 1000, QueueRow())
    outbox.append(named("a1", "b1", "c1", "d1"))
    outbox.take(3)
    outbox.acknowledge(number(1))
    assert outbox.in_doubt() == []
    outbox.rewind()
    assert outbox.in_doubt() == ["a", "c"]
    assert await outbox.forget_stored("a", "1") == 1
    assert await outbox.forget_stored("c", None) == 0
    assert outbox.in_doubt() == []
    assert [each for each, _ in outbox.take(99)] == [number(2), number(3)]


async def test_what_was_never_sent_was_stored_by_somebody_else() -> None:
    """That one did not store what we hold before it, or not all: nothing is forgotten."""
    outbox = doubtful("a1", "a2", "a3", taken=2)
    assert await settled(outbox, "a", "3") == (0, ["a1", "a2", "a3"])


async def test_of_two_messages_with_one_id_the_first_was_stored() -> None:
    """The server refused the second, so what lies between came after the last that is stored."""
    assert await settled(doubtful("a1", "a2", "a1"), "a", "1") == (1, ["a2", "a1"])


async def test_settling_makes_room_and_may_be_the_end() -> None:
    """As if it had been acknowledged."""
    row = QueueRow()
    outbox = Outbox(2, 1000, row)
    outbox.append(named("a1", "a2"))
    outbox.take(2)
    outbox.rewind()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.room)
        await wait_all_tasks_blocked()
        assert await outbox.forget_stored("a", "2") == 2
    outbox.close()
    assert (row.held, row.held_bytes, outbox.drained) == (0, 0, True)


def test_another_message_takes_the_place_of_one_that_is_out() -> None:
    """Under its number, in its turn, with its own size; None forgets the message."""
    row = QueueRow()
    outbox = Outbox(10, 1000, row)
    outbox.append(messages(100, 200, 300))
    (instead,) = messages(7)
    outbox.take(3)
    assert outbox.replace(number(1), lambda _: instead) is instead
    assert outbox.replace(number(2), lambda _: None) is None
    assert (row.held, row.held_bytes) == (2, 107)
    outbox.rewind()
    assert [(n, len(message.payload)) for n, message in outbox.take(9)] == [
        (number(0), 100),
        (number(1), 7),
    ]


async def test_spilling_early_holds_less_and_takes_what_waited_when_it_is_over(
    nursery: trio.Nursery,
) -> None:
    """What is held already stays; whoever waits for room goes on once there is as much again."""
    row = QueueRow()
    outbox = Outbox(80, 800, row)
    outbox.append(messages(*[10] * 20))
    outbox.spill(True)
    assert (row.capacity, row.capacity_bytes, row.held) == (10, 100, 20)
    passed = trio.Event()

    async def wait() -> None:
        await outbox.room()
        passed.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert not passed.is_set()
    outbox.spill(False)
    await passed.wait()
    assert (row.capacity, row.capacity_bytes) == (80, 800)


def test_what_the_stream_holds_is_left_out_where_it_comes_from_the_disk() -> None:
    """Only the next message of its subject can be it; and it counts as published."""
    board = Board()
    outbox = Outbox(10, 10_000, board.outbox, board=board)
    first, second = (
        Message("trade-data.okx.spot.A-B", f"trade:{n}", b"{}", INSTRUMENT, "trade") for n in (1, 2)
    )
    outbox.append([first, second])
    outbox.skip(first.subject, first.msg_id)
    assert [message for _, message in outbox.take(10)] == [second]
    assert (board.outbox.held, board.sink.acknowledged) == (1, 1)
    outbox.append([first])
    assert [message for _, message in outbox.take(10)] == [first]
