"""The last message of a subject, in JetStream's words."""

import base64
import json

import pytest

from marketprism.errors import SinkLost
from marketprism.sinks.last import Stored, question, read


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
