"""The outbox against a naive model, and its waiting."""

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from marketprism.instruments import Instrument
from marketprism.sinks import Outbox
from marketprism.status import QueueRow
from marketprism.wire import Message

INSTRUMENT = Instrument("okx", "spot", "BTC-USDT", "BTC-USDT")


def messages(*sizes: int) -> list[Message]:
    """Messages with payloads of these sizes."""
    return [Message("subject", "id", b"x" * size, INSTRUMENT, "trade") for size in sizes]


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
            assert outbox.take(argument) == [(n, log[n][0]) for n in waits]
            for n in waits:
                log[n] = (log[n][0], "out")
        elif operation == "acknowledge":
            assert isinstance(argument, int)
            out = argument < len(log) and log[argument][1] == "out"
            assert (outbox.acknowledge(argument) is not None) == out
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
    outbox.acknowledge(1)
    outbox.rewind()
    assert [sequence for sequence, _ in outbox.take(9)] == [0, 2, 3, 4]


def test_it_is_drained_when_closed_and_all_is_acknowledged() -> None:
    """Neither closing nor acknowledging alone is the end."""
    outbox = Outbox(10, 1000, QueueRow())
    outbox.append(messages(1))
    seen = []
    for step in (outbox.close, lambda: outbox.take(1), lambda: outbox.acknowledge(0)):
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
        outbox.acknowledge(0)
        with trio.fail_after(1):
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
            with trio.fail_after(1):
                await wait_all_tasks_blocked()


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
