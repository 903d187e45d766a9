"""Subjects, widening and acknowledgements: the pure parts."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism.errors import SinkLost, SinkState
from marketprism.sinks.jetstream import Acknowledgements, Withheld, covers, widened
from marketprism.wire import SUBJECTS

TOKENS = st.sampled_from(["a", "b", "*"])
PATTERNS = st.builds(
    lambda tokens, rest: ".".join([*tokens, *rest]),
    st.lists(TOKENS, max_size=3),
    st.sampled_from([[], [">"]]),
).filter(bool)
PLAIN = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5)


def matches(pattern: str, tokens: list[str]) -> bool:
    """What NATS says of a subject without wildcards."""
    wide = pattern.split(".")
    if wide[-1] == ">":
        wide = wide[:-1]
        return len(tokens) > len(wide) and matches(
            ".".join(wide or ["*"]), tokens[: len(wide) or 1]
        )
    pairs = list(zip(wide, tokens, strict=False))
    return len(wide) == len(tokens) and all(one in ("*", other) for one, other in pairs)


@given(PATTERNS, PATTERNS, st.lists(PLAIN, max_size=20))
def test_what_is_covered_matches_nothing_more(
    wide: str, narrow: str, subjects: list[list[str]]
) -> None:
    """Whatever the covered pattern matches, the covering one matches too."""
    if covers(wide, narrow):
        assert all(matches(wide, tokens) for tokens in subjects if matches(narrow, tokens))


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        (">", "a", True),
        (">", "a.>", True),
        ("a.>", "a", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a.*.>", True),
        ("a.*.>", "a.>", False),
        ("a.*", "a.>", False),
        ("*.b", "a.b", True),
        ("a.b", "*.b", False),
        ("a.*", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("trade-data.>", "trade-data.>", True),
    ],
)
def test_covering(wide: str, narrow: str, expected: bool) -> None:
    """Both wildcards, on either side."""
    assert covers(wide, narrow) is expected


@given(st.lists(PATTERNS, max_size=4), st.lists(PATTERNS, min_size=1, max_size=3, unique=True))
def test_a_widened_stream_takes_all_that_it_took_and_all_of_ours(
    subjects: list[str], ours: list[str]
) -> None:
    """Never narrowed, and left alone where nothing is missing."""
    result = widened(subjects, ours)
    after = subjects if result is None else result
    for subject in [*subjects, *ours]:
        assert any(covers(new, subject) for new in after)
    if all(any(covers(old, new) for old in subjects) for new in ours):
        assert result is None


def test_a_stream_of_ours_needs_no_widening() -> None:
    """Nor does one that takes everything."""
    assert widened(SUBJECTS) is None
    assert widened([">"]) is None
    assert widened([f"{subject.split('.')[0]}.>" for subject in SUBJECTS]) is None


@given(st.integers(0, 2**63), st.booleans())
def test_acknowledgements_mean_the_same_however_they_are_spelled(
    number: int, duplicate: bool
) -> None:
    """The quick way and the thorough one agree."""
    read = Acknowledgements("MARKET_DATA").read
    answer: dict[str, object] = {"stream": "MARKET_DATA", "seq": number}
    if duplicate:
        answer["duplicate"] = True
    expected = "duplicate" if duplicate else "stored"
    assert read(msgspec.json.encode(answer)) == expected
    assert read(msgspec.json.encode(answer | {"domain": "hub"})) == expected
    assert read(msgspec.json.format(msgspec.json.encode(answer), indent=2)) == expected


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "stream MARKET_DATA is gone"),
        (b"nonsense", "could not be read"),
        (b'{"stream":"MARKET_DATA","seq":12', "could not be read"),
        (b'{"stream":"OTHER","seq":1}', "stream 'OTHER' took"),
        (
            b'{"error":{"code":400,"err_code":10109,"description":"invalid operation on sealed"}}',
            "stream MARKET_DATA does not store: invalid operation on sealed",
        ),
    ],
)
def test_what_is_not_stored_loses_the_sink(payload: bytes, words: str) -> None:
    """Everything but an acknowledgement by our stream."""
    with pytest.raises(SinkLost, match=words):
        Acknowledgements("MARKET_DATA").read(payload)


@pytest.mark.parametrize(
    ("code", "state"),
    [(10077, SinkState.STREAM_FULL), (10002, SinkState.LIMITED), (10023, SinkState.LIMITED)],
)
def test_a_stream_without_room_is_asked_again_over_the_same_connection(
    code: int, state: SinkState
) -> None:
    """A new connection would find the same."""
    answer = b'{"error":{"code":503,"err_code":%d,"description":"no room"},"seq":0}' % code
    words = "stream MARKET_DATA does not store: no room"
    assert Acknowledgements("MARKET_DATA").read(answer) == Withheld(state, words)


def test_a_message_too_large_for_the_stream_is_told_apart() -> None:
    """Sending it again would be refused again."""
    answer = b'{"error":{"code":400,"err_code":10054,"description":"too large"},"seq":0}'
    assert Acknowledgements("MARKET_DATA").read(answer) == "oversize"
