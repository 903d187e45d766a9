"""What Deribit's answers over REST mean beside their data."""

import json

import pytest

from marketprism.feeds.deribit.answers import PASSING, interpret
from marketprism.feeds.http_answers import STOPS, HttpAnswer, Meaning


def failed(status: int, code: int) -> Meaning:
    """What an error means."""
    error = {"code": code, "message": "words"}
    return interpret(HttpAnswer(status, {}, json.dumps({"error": error}).encode()), 0)


@pytest.mark.parametrize("status", [200, 400, 429])
def test_too_many_requests_stop_the_host(status: int) -> None:
    """Whatever the status."""
    assert failed(status, 10028) == Meaning("10028: words", stop=STOPS[429])


@pytest.mark.parametrize(
    ("status", "code", "passes"),
    [
        *((400, code, True) for code in sorted(PASSING - {10028})),
        (400, -32602, False),
        (500, -32602, True),
        (403, 11051, False),
    ],
)
def test_some_codes_pass(status: int, code: int, passes: bool) -> None:
    """Maintenance, say: it is asked again soon."""
    assert failed(status, code) == Meaning(f"{code}: words", passes)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"result":{}}', b'{"error":1}', b"<html>"])
def test_a_body_that_tells_no_error_means_what_its_status_does(body: bytes) -> None:
    """Data, nothing, or somebody else's words."""
    assert interpret(HttpAnswer(200, {}, body), 0) == Meaning()
    assert interpret(HttpAnswer(502, {}, body), 0) == Meaning("status 502")
