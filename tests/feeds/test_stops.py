"""A host that says stop, under no clock but the one that is handed in."""

from hypothesis import given
from hypothesis import strategies as st

from marketprism.clock import SECOND
from marketprism.feeds.http_answers import Guess
from marketprism.feeds.stops import LOOK, Stop

GUESS = Guess(10.0, 35.0)
ONE, OTHER = object(), object()


def test_a_stop_holds_for_all_and_is_never_shortened() -> None:
    """A shorter one after it changes nothing."""
    stop = Stop()
    assert stop.admit(ONE, 0) == 0
    assert stop.told(120, GUESS, 0) == 120
    assert stop.told(5, GUESS, 0) == 120
    assert stop.wait(20 * SECOND) == stop.admit(ONE, 20 * SECOND) == 100 * SECOND
    assert stop.admit(ONE, 120 * SECOND - 1) == 1


def test_one_call_finds_out_whether_it_is_over() -> None:
    """Until it is answered the others look on; then all may call."""
    stop = Stop()
    stop.told(1, GUESS, 0)
    assert stop.admit(ONE, SECOND) == 0
    assert stop.admit(OTHER, SECOND) == stop.wait(SECOND) == LOOK
    stop.passed(ONE)
    assert stop.admit(OTHER, SECOND) == stop.admit(ONE, SECOND) == 0


def test_a_call_that_found_out_nothing_leaves_it_to_the_next() -> None:
    """It was cancelled, or nobody answered."""
    stop = Stop()
    stop.told(1, GUESS, 0)
    assert stop.admit(ONE, SECOND) == 0
    stop.left(OTHER)
    assert stop.wait(SECOND) == LOOK
    stop.left(ONE)
    assert stop.admit(OTHER, SECOND) == 0
    assert stop.admit(ONE, SECOND) == LOOK


def test_an_answer_to_what_was_asked_before_proves_nothing() -> None:
    """It was under way when the host said stop."""
    stop = Stop()
    assert stop.admit(ONE, 0) == 0
    stop.told(1, GUESS, 0)
    stop.passed(ONE)
    assert stop.wait(0) == SECOND
    assert stop.admit(OTHER, SECOND) == 0
    stop.passed(ONE)
    assert stop.wait(SECOND) == LOOK


def test_a_guess_grows_only_with_what_is_said_after_its_end() -> None:
    """Several who are told at once are told once; a good answer begins anew."""
    stop, now, waits = Stop(), 0, []
    for _ in range(4):
        waits.append(stop.told(None, GUESS, now))
        assert stop.told(None, GUESS, now + SECOND) == waits[-1] - 1
        now = stop.until
        assert stop.admit(ONE, now) == 0
    assert waits == [10, 20, 35, 35]
    stop.passed(ONE)
    assert stop.told(None, GUESS, now) == 10


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40 * SECOND),
            st.sampled_from(["ask", "pass", "tell", "guess", "leave"]),
            st.integers(0, 3),
        )
    )
)
def test_nobody_calls_before_its_end_and_one_alone_after_it(
    events: list[tuple[int, str, int]],
) -> None:
    """Whatever comes in whatever order: of those who were let in, at most one since the stop."""
    stop, now, until, callers = Stop(), 0, -1, [object() for _ in range(4)]
    probing: set[int] = set()
    over = True
    for pause, event, who in events:
        now += pause
        if event == "ask" and stop.admit(callers[who], now) == 0:
            assert now >= until
            assert over or not probing
            if not over:
                probing.add(who)
        elif event == "pass":
            stop.passed(callers[who])
            over = over or who in probing
        elif event in ("tell", "guess"):
            left = stop.told(3.0 if event == "tell" else None, GUESS, now)
            assert now + round(left * SECOND) >= until
            until, over, probing = stop.until, False, set()
        elif event == "leave":
            stop.left(callers[who])
            probing.discard(who)
        if over:
            probing.clear()
