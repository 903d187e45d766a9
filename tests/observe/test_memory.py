"""The memory guard: when it sheds and takes up again, and that it does what it says."""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from okx_line import OkxChain, OkxLine

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.feeds.venue import Holding, Session
from marketprism.observe.cgroup import Limit
from marketprism.observe.memory import Bounds, Measure, MemoryGuard, Policy, Slack, give_back
from marketprism.observe.memory_report import high_words, memory_report
from marketprism.observe.rates import resident_memory
from marketprism.outbox.outbox import Outbox
from marketprism.pipeline.outlet import Outlet
from marketprism.settings.settings import MemoryConfig

GIB, MIB = 2**30, 2**20
SECOND = 1_000_000_000
NONE = Limit(None, "none")
ONE = Limit(GIB, "cgroup v2")


@pytest.mark.parametrize(
    ("config", "limit", "bounds"),
    [
        (MemoryConfig(), NONE, (None, None, None, "none")),
        (MemoryConfig(), ONE, (GIB, int(0.7 * GIB), int(0.85 * GIB), "cgroup v2")),
        (MemoryConfig(soft=5e8, hard=6e8), NONE, (None, 5 * 10**8, 6 * 10**8, "configured")),
        (MemoryConfig(soft=5e8, hard=6e8), ONE, (GIB, 5 * 10**8, 6 * 10**8, "configured")),
        # A share where there is no limit is one of the hard bound.
        (MemoryConfig(soft=0.5, hard=6e8), NONE, (None, 3 * 10**8, 6 * 10**8, "configured")),
        (MemoryConfig(soft=5e8), NONE, (None, 5 * 10**8, None, "configured")),
        # Size and share together may cross: what is hard is also high.
        (MemoryConfig(soft=0.9, hard=6e8), ONE, (GIB, 6 * 10**8, 6 * 10**8, "configured")),
    ],
)
def test_bounds_are_sizes_or_shares_of_the_limit(
    config: MemoryConfig, limit: Limit, bounds: tuple[int | None, int | None, int | None, str]
) -> None:
    """Without a limit, and without sizes, there are none."""
    assert attrs.astuple(Bounds.of(config, limit)) == bounds


def test_soft_above_hard_is_no_configuration() -> None:
    """Where the two can be compared."""
    with pytest.raises(ValueError, match="soft"):
        MemoryConfig(soft=0.9, hard=0.8)
    with pytest.raises(ValueError, match="soft"):
        MemoryConfig(soft=9e8, hard=8e8)


def policy(limit: Limit = NONE, **changes: Any) -> Policy:
    """Soft at 100, hard at 200 bytes; 2 s between sheds, 10 s until relief."""
    config = attrs.evolve(MemoryConfig(soft=100, hard=200), **changes)
    return Policy(Bounds.of(config, limit), config)


def actions(judge: Policy, story: Sequence[tuple[float, int]]) -> list[tuple[float, str]]:
    """What follows from so much memory at so many seconds: `+books` is shed, `-books` taken up."""
    said = []
    for seconds, used in story:
        step = judge.judge(used, round(seconds * SECOND))
        if step is not None:
            said.append((seconds, f"{'+' if step.shed else '-'}{step.burden}"))
    return said


def test_burdens_are_shed_in_order_with_time_between_and_taken_up_in_reverse() -> None:
    """Memory takes time to fall, and to rise."""
    judge = policy()
    rising = [(t / 2, 200) for t in range(12)]
    assert actions(judge, rising) == [(0, "+books"), (2, "+buffers"), (4, "+spool")]
    between = [(t, 150) for t in range(6, 60)]
    assert actions(judge, between) == []
    falling = [(t, 99) for t in range(60, 100)]
    assert actions(judge, falling) == [(70, "-spool"), (80, "-buffers"), (90, "-books")]
    assert judge.shed == []


def test_a_glance_below_the_soft_bound_is_no_relief() -> None:
    """It counts from when memory came down to stay."""
    judge = policy()
    actions(judge, [(0, 250)])
    story = [(t, 99 if t % 9 else 120) for t in range(1, 80)]
    assert actions(judge, story) == []


def test_what_is_free_to_be_used_again_calls_for_nothing() -> None:
    """Memory that Python keeps must not keep books from being told."""
    judge = policy()
    actions(judge, [(0, 250)])
    assert judge.judge(250, 1 * SECOND, slack=160) is None
    assert judge.judge(250, 11 * SECOND, slack=160) == Measure("books", shed=False)
    assert judge.judge(290, 12 * SECOND, slack=91) is None
    assert judge.judge(291, 13 * SECOND, slack=91) == Measure("books", shed=True)


def test_near_the_limit_all_that_is_resident_counts_while_there_is_something_to_shed() -> None:
    """The kernel does not know what is free in there; but what is not held cannot be shed."""
    judge = policy(Limit(400, "cgroup v2"))
    assert judge.judge(299, 1 * SECOND, slack=180) is None
    assert judge.judge(300, 2 * SECOND, slack=180) == Measure("books", shed=True)
    assert judge.judge(300, 2 * SECOND, slack=180) == Measure("buffers", shed=True)
    assert judge.judge(300, 3 * SECOND, slack=201) is None
    assert judge.judge(300, 13 * SECOND, slack=201) == Measure("buffers", shed=False)


def test_an_own_order_is_kept_and_what_is_not_named_is_never_shed() -> None:
    """Also none at all."""
    judge = policy(shed_order=("spool", "books"))
    assert actions(judge, [(t, 250) for t in range(9)]) == [(0, "+spool"), (2, "+books")]
    assert actions(policy(shed_order=()), [(t, 300) for t in range(9)]) == []


def test_near_the_limit_nothing_waits() -> None:
    """Past the middle of hard bound and limit each look sheds one more."""
    story = [(0.0, 249), (0.5, 249), (1.0, 250), (1.5, 250)]
    judge = policy(Limit(300, "cgroup v2"))
    assert actions(judge, story) == [(0, "+books"), (1.0, "+buffers"), (1.5, "+spool")]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 300)), max_size=80))
def test_whatever_memory_does_steps_keep_their_order_and_distance(
    moves: list[tuple[int, int]],
) -> None:
    """Shed at the hard bound only, taken up below the soft one only, last in first out."""
    judge = policy(Limit(500, "cgroup v2"))
    now, stack, last_shed, last_up = 0, list[str](), -(10**9), -(10**9)
    for pause, used in moves:
        now += pause
        match judge.judge(used, now * SECOND):
            case Measure(burden, shed=True):
                assert used >= 200
                assert now - last_shed >= 2
                stack.append(burden)
                assert stack == ["books", "buffers", "spool"][: len(stack)]
                last_shed = now
            case Measure(burden, shed=False):
                assert used < 100
                assert now - max(last_shed, last_up) >= 10
                assert stack.pop() == burden
                last_up = now
        assert judge.shed == stack


@attrs.define(eq=False)
class Room:
    """A guard over real queues, and a memory that a test sets."""

    used: int = 50 * MIB
    time: float = 0.0
    board: Board = attrs.field(factory=Board)
    given_back: list[float] = attrs.field(factory=list)
    sessions: list[Session] = attrs.field(factory=list)

    def guard(self) -> MemoryGuard:
        config = MemoryConfig(soft=100 * MIB, hard=200 * MIB)
        return MemoryGuard(
            Policy(Bounds.of(config, NONE), config),
            self.board,
            Outlet(1000, self.board),
            Outbox(800, 8000, self.board.outbox),
            self.sessions,
            lambda: Timestamp(0, round(self.time * SECOND)),
            lambda: self.used,
            lambda: self.given_back.append(self.time),
        )


def test_each_burden_is_really_shed_and_taken_up() -> None:
    """Books are conflated, the outbox holds less; the board says so."""
    room = Room()
    guard = room.guard()
    channel, outbox, row = room.board.channel, room.board.outbox, room.board.memory

    def look(seconds: float, used: int) -> tuple[list[str], bool, int, int]:
        room.time, room.used = seconds, used * MIB
        guard.look()
        return row.shed, channel.conflating, outbox.capacity, outbox.capacity_bytes

    assert look(0, 150) == ([], False, 800, 8000)
    assert row.high
    assert look(1, 250) == (["books"], True, 800, 8000)
    assert look(3, 250) == (["books", "buffers"], True, 800, 8000)
    assert look(5, 250) == (["books", "buffers", "spool"], True, 100, 1000)
    assert look(6, 50)[0] == ["books", "buffers", "spool"]
    assert look(16, 50) == (["books", "buffers"], True, 800, 8000)
    assert look(26, 50) == (["books"], True, 800, 8000)
    assert look(36, 50) == ([], False, 800, 8000)
    assert not row.high


def test_slack_is_what_holders_gave_up_and_the_process_did_not() -> None:
    """What grows by itself is none; what is used again, or given back, is none any more."""
    slack = Slack()
    story = [  # rest, accounted for, slack
        (50, 0, 0),
        (51, 100, 0),
        (60, 100, 0),
        (130, 30, 70),
        (150, 10, 90),
        (155, 10, 90),
        (60, 100, 0),
        (70, 10, 20),
        (50, 10, 0),
    ]
    seen = [slack.seen(rest, held, calm=False) for rest, held, _ in story]
    assert seen == [free for *_, free in story]
    assert slack.seen(120, 0, calm=True) == 0
    assert slack.seen(121, 0, calm=False) == 0


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50))))
def test_slack_is_known_to_the_byte_where_only_holders_move(
    moves: list[tuple[int, int]],
) -> None:
    """Memory is used again first, then grown; sometimes some is given back; it may tremble."""
    slack, resident = Slack(), 0
    slack.seen(50, 0, calm=True)
    for held, given_back in moves:
        resident = max(resident, held)
        assert slack.seen(50 + resident - held, held, calm=False) == resident - held
        resident = max(held, resident - given_back)
        assert slack.seen(50 + resident - held, held, calm=False) == resident - held


def test_memory_that_stays_resident_after_a_peak_keeps_nothing_shed() -> None:
    """What the outbox held and gave up is free for whoever comes next; a full channel is not."""
    room = Room()
    guard = room.guard()
    row, outbox, channel = room.board.memory, room.board.outbox, room.board.channel
    guard.look()
    for seconds, held in ((1, 60), (2, 150), (3, 160)):
        room.time, room.used, outbox.held_bytes = seconds, (50 + held) * MIB, held * MIB
        guard.look()
    assert (row.shed, row.slack) == (["books"], 0)
    outbox.held_bytes = 0
    for seconds in range(4, 15):
        room.time = seconds
        guard.look()
    assert (row.used, row.slack) == (210 * MIB, 160 * MIB)
    assert (row.shed, row.high) == ([], False)
    assert row.holders["slack"] == {"bytes": 160 * MIB}
    channel.held = 20_000
    guard.look()
    assert row.slack == 0
    assert row.high


def test_a_dip_while_something_is_shed_does_not_make_what_is_free_look_needed() -> None:
    """Else memory that stays resident right at the soft bound would keep books from being told."""
    room = Room()
    guard = room.guard()
    row, outbox = room.board.memory, room.board.outbox
    guard.look()
    for seconds, used, held in ((1, 210, 160), (2, 99, 0), (3, 105, 0), (4, 99, 0), (5, 105, 0)):
        room.time, room.used, outbox.held_bytes = seconds, used * MIB, held * MIB
        guard.look()
        assert row.shed == ["books"]
    assert (row.slack, row.high) == (55 * MIB, False)
    room.time = 12
    guard.look()
    assert row.shed == []


def test_what_waits_for_a_snapshot_is_dropped_for_as_long_as_buffers_are_shed() -> None:
    """At each look, of every session that is connected."""
    chain = OkxChain.made(1, 9)
    line = OkxLine()
    room = Room(used=250 * MIB, sessions=[line.session])
    guard = room.guard()
    guard.look()
    line.hear(chain.frame(0), chain.frame(1))
    room.time = 1
    guard.look()
    assert room.board.memory.holders["buffers"]["updates"] == 2
    for seconds, frame in ((2, 2), (3, 3)):
        line.hear(chain.frame(frame))
        room.time = seconds
        guard.look()
        assert line.session.holding().updates == 0
    assert room.board.memory.shed == ["books", "buffers"]


def test_free_memory_is_given_back_only_while_memory_is_much() -> None:
    """And no more often than steps are taken: it costs milliseconds."""
    room = Room()
    guard = room.guard()
    for tick in range(40):
        room.time, room.used = tick / 2, (150 if 10 <= tick < 20 else 50) * MIB
        guard.look()
    assert room.given_back == [5.0, 7.0, 9.0]


def test_what_is_free_is_given_back_to_the_system() -> None:
    """The C library keeps it otherwise: an outbox that was drained would look full for ever."""
    before = resident_memory()
    # Larger than Python's own pools take; every other one stays, so nothing is free at the end.
    blocks = [bytes([n % 251]) * 5000 for n in range(40_000)]
    kept = blocks[::100]
    held = resident_memory() - before
    blocks.clear()
    give_back()
    assert held > 100 * MIB
    assert resident_memory() - before < held / 2
    assert len(kept) == 400


async def test_it_looks_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    """At its interval, until cancelled."""
    room = Room(used=150 * MIB)
    guard = room.guard()
    with trio.move_on_after(9.75):
        await guard.run()
    assert room.board.memory.used == 150 * MIB
    assert room.given_back == [0.0]


def test_the_words_name_the_largest_holder_first() -> None:
    """Sizes are estimates, counts are exact."""
    board = Board()
    board.outbox.held, board.outbox.held_bytes = 100_000, 300 * MIB
    board.channel.held = 70
    kept = [Holding(2, 400_000), Holding(1, 10, 30, 100_000)]
    row = board.memory
    row.used, row.soft, row.limit = 600 * MIB, 512 * MIB, 1024 * MIB
    row.holders = memory_report(board, kept, row.used)
    assert list(row.holders) == ["outbox", "rest", "books", "buffers"]
    assert sum(holder["bytes"] for holder in row.holders.values()) == row.used
    assert high_words(row) == (
        "memory is high: 600 MiB of 1024 MiB, above 512 MiB; "
        "the outbox about 331 MiB (100000 messages), "
        "the rest of the process about 190 MiB (70 channel records), "
        "order books about 57 MiB (3 books, 400010 levels), "
        "updates that wait for a snapshot about 21 MiB (30 updates)"
    )
