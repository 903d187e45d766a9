"""What OKX's answers over REST mean beside their data: `code` first, whatever the status."""

import json

import pytest

from marketprism.feeds.http_answers import STOPS, HttpAnswer, Meaning
from marketprism.feeds.okx.answers import STOPPED_FOR, interpret
from marketprism.feeds.okx.messages import AnswerError, read_data


def failed(status: int, code: str, words: str = "words") -> Meaning:
    """What an error means."""
    body = json.dumps({"code": code, "data": [], "msg": words}).encode()
    return interpret(HttpAnswer(status, {}, body), 0)


@pytest.mark.parametrize("status", [200, 400])
def test_too_many_requests_stop_the_host_a_moment(status: int) -> None:
    """Under a status that means success, too."""
    assert failed(status, "50011") == Meaning("50011: words", stop=STOPPED_FOR)


def test_a_status_that_stops_does_so_for_longer() -> None:
    """HTTP's own word."""
    assert failed(429, "50011") == Meaning("50011: words", stop=STOPS[429])


@pytest.mark.parametrize(
    ("status", "code", "passes"),
    [
        *((status, code, True) for status in (200, 400) for code in ("50013", "50026", "50001")),
        (200, "51001", False),
        (200, "50014", False),
        (503, "50999", True),
        (403, "50001", False),
    ],
)
def test_some_codes_pass(status: int, code: str, passes: bool) -> None:
    """They are asked again soon, the others slowly; none stops anybody else."""
    assert failed(status, code) == Meaning(f"{code}: words", passes)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b"\xff", b'{"code":"0","data":[],"msg":""}', b"[" * 9999]
)
def test_a_body_that_tells_no_error_means_what_its_status_does(body: bytes) -> None:
    """Data, nothing, or the firewall's words."""
    assert interpret(HttpAnswer(200, {}, body), 0) == Meaning()
    assert interpret(HttpAnswer(502, {}, body), 0) == Meaning("status 502")


def test_rows_are_read_after_the_code() -> None:
    """An error says what it is, and not that there are too few rows."""
    assert [bytes(row) for row in read_data(b'{"data":[1],"code":"0"}')] == [b"1"]
    with pytest.raises(AnswerError, match=r"^50013: Systems are busy\.$"):
        read_data(b'{"data":[],"code":"50013","msg":"Systems are busy."}')
