"""What HTTP itself says of asking again: statuses, `Retry-After`, and what of it can be meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism.clock import SECOND
from marketprism.feeds.http_answers import (
    LONGEST_STOP,
    SHORTEST_STOP,
    STOPS,
    HttpAnswer,
    Meaning,
    usual,
)

NOON = 1_792_584_000
"""Wed, 21 Oct 2026 12:00:00 GMT, in seconds."""
WALL = NOON * SECOND


def waits(said: str, **others: str) -> float | None:
    """The seconds that a `Retry-After` is believed to mean, at noon by our clock."""
    return usual(HttpAnswer(429, {"retry-after": said} | others), WALL).retry_after


def test_a_good_answer_means_nothing_beside_its_data() -> None:
    """Whatever its headers say."""
    assert usual(HttpAnswer(200, {"retry-after": "7"}), WALL) == Meaning()


@pytest.mark.parametrize("status", [429, 418])
def test_a_host_that_says_stop_is_believed(status: int) -> None:
    """It passes; how long to stop where it does not say, its status tells."""
    assert usual(HttpAnswer(status, {}), WALL) == Meaning(
        f"status {status}", passes=True, stop=STOPS[status]
    )


@pytest.mark.parametrize(
    ("status", "passes"),
    [(500, True), (503, True), (302, True), (408, True), (400, False), (404, False), (451, False)],
)
def test_other_statuses_pass_or_they_do_not(status: int, passes: bool) -> None:
    """Nobody else is stopped by them; a time that is said holds for whoever asked."""
    meaning = usual(HttpAnswer(status, {"retry-after": "7"}), WALL)
    assert meaning == Meaning(f"status {status}", passes, None, 7.0)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("0", SHORTEST_STOP),
        ("259200", LONGEST_STOP),
        ("Wed, 21 Oct 2026 12:01:30 GMT", 90.0),
        ("Wednesday, 21-Oct-26 12:01:30 GMT", 90.0),
        ("Wed, 21 Oct 2026 12:00:00 GMT", SHORTEST_STOP),
    ],
)
def test_a_time_to_wait_is_seconds_or_a_date(said: str, seconds: float) -> None:
    """RFC 9110, 10.2.3."""
    assert waits(said) == seconds


@pytest.mark.parametrize(
    "said",
    [
        *("", "-1", "1e9", "٣", "lots", "259201", "99999999999999999999", "nan", "1_0"),
        "Wed, 21 Oct 2026 11:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Wed, 99 Foo 2026 99:99:99 GMT",
    ],
)
def test_what_cannot_be_meant_is_no_time(said: str) -> None:
    """In the past, beyond the longest ban that there is, or nothing at all."""
    assert waits(said) is None


def test_a_date_is_by_the_hosts_own_clock() -> None:
    """Where the answer says what that shows, ours may be wrong by hours."""
    until = "Wed, 21 Oct 2026 18:00:30 GMT"
    assert waits(until) == 6 * 3600 + 30
    assert waits(until, date="Wed, 21 Oct 2026 18:00:00 GMT") == 30
    assert waits(until, date="nonsense") == 6 * 3600 + 30
    assert waits(until, date="Fri, 31 Dec 9999 23:59:59 GMT") is None


@given(st.text(max_size=60), st.text(max_size=60), st.integers(0, 2**62))
def test_nothing_that_a_header_says_is_a_fault_of_ours(said: str, date: str, wall: int) -> None:
    """A time that can be meant, or none."""
    found = usual(HttpAnswer(429, {"retry-after": said, "date": date}), wall).retry_after
    assert found is None or SHORTEST_STOP <= found <= LONGEST_STOP
