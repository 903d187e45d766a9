"""The last message of a subject, in JetStream's words."""

import base64
import json
import random
from bisect import bisect_left
from collections.abc import Sequence

import pytest
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism.errors import SinkLost
from marketprism.resume.last_message import (
    EARLIER,
    FURTHEST,
    Stored,
    backwards,
    question,
    question_from,
    read,
)


def answer(headers: str | None, data: bytes = b"{}") -> bytes:
    """As the server answers; without headers there is no such key."""
    message = {"subject": "a.b", "seq": 7, "data": base64.b64encode(data).decode()}
    if headers is not None:
        message["hdrs"] = base64.b64encode(headers.encode()).decode()
    return json.dumps({"type": "…", "message": message}).encode()


def test_the_question_names_the_subject() -> None:
    """By its last message."""
    assert json.loads(question("a.b")) == {"last_by_subj": "a.b"}


@pytest.mark.parametrize(
    ("headers", "msg_id"),
    [
        ("NATS/1.0\r\nNats-Msg-Id: trade:x:1\r\n\r\n", "trade:x:1"),
        ("NATS/1.0\r\nOther: 1\r\nNats-Msg-Id:id\r\n\r\n", "id"),
        ("NATS/1.0\r\nOther: Nats-Msg-Id: 1\r\n\r\n", None),
        (None, None),
    ],
)
def test_an_answer_is_a_message(headers: str | None, msg_id: str | None) -> None:
    """With the id that it was published under, where there is one."""
    assert read(answer(headers), "S") == Stored("a.b", 7, msg_id, b"{}")


def test_no_message_is_an_answer_too() -> None:
    """Nothing was ever published there, or nothing is left of it."""
    error = {"code": 404, "err_code": 10037, "description": "no message found"}
    assert read(json.dumps({"error": error}).encode(), "S") is None


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"nonsense",
        b"{}",
        b'{"message": {"subject": "a", "seq": 1, "data": "%"}}',
        b'{"error": {"err_code": 10059, "description": "stream not found"}}',
    ],
)
def test_what_is_no_answer_loses_the_sink(words: bytes) -> None:
    """Nothing may be concluded from it."""
    with pytest.raises(SinkLost, match="stream S"):
        read(words, "S")


def test_the_question_for_a_message_further_back_names_a_number_too() -> None:
    """The first of the subject from there on."""
    assert json.loads(question_from("a.b", 5)) == {"seq": 5, "next_by_subj": "a.b"}


def walked(places: Sequence[int]) -> tuple[list[int], int]:
    """The numbers of the messages before the last, as a stream that holds those of that subject
    tells them; and how often it was asked.
    """
    walking, asked = backwards(Stored("a.b", places[-1], None, b"")), 0
    try:
        start = next(walking)
        while True:
            asked += 1
            following = places[bisect_left(places, start) :][:1]
            start = walking.send(Stored("a.b", following[0], None, b"") if following else None)
    except StopIteration as end:
        return [each.sequence for each in end.value], asked


@settings(max_examples=examples(200), deadline=None)
@given(
    actions=st.lists(st.sampled_from([1, 1, 2, 9, 150, 2_000, 40_000]), min_size=1, max_size=60),
    first=st.integers(1, 10**9),
)
def test_what_is_stored_before_the_last_message_is_found(actions: list[int], first: int) -> None:
    """The latest of its subject, however they lie in the stream, with few questions."""
    places = [first]
    for step in actions:
        places.append(places[-1] + step)
    found, asked = walked(places)
    near = [place for place in places[:-1] if place >= places[-1] - FURTHEST]
    assert found == near[-EARLIER:]
    assert asked <= 100


def test_a_subject_that_is_rare_is_not_looked_for_for_ever() -> None:
    """Nor is one of which there is a crowd, further back, read from its beginning."""
    assert walked([5, 10**9]) == ([], 1)
    crowd = list(range(10**6, 10**6 + 5_000))
    found, asked = walked([*crowd, crowd[-1] + 1_000])
    assert found == crowd[-EARLIER:]
    assert asked < 60
    dice = random.Random(1)
    for share in (2, 20, 200, 2_000):
        places = sorted(dice.sample(range(1, 200_000), 200_000 // share))
        found, asked = walked(places)
        assert found == places[-1 - EARLIER : -1]
        assert asked < 80
