"""What Binance's answers over REST mean beside their data."""

import json

import pytest

from marketprism.clock import SECOND
from marketprism.feeds.binance.answers import interpret
from marketprism.feeds.http_answers import LONGEST_STOP, STOPS, HttpAnswer, Meaning

NOW = 1_516_180_000
"""Seconds; 2018-01-17 09:06:40 GMT."""
WALL = NOW * SECOND
WORDS = "Way too many requests; IP(1.2.3.4) banned until {}. Please use the websocket."


def failed(status: int, code: int, words: str = "words", **headers: str) -> Meaning:
    """What an error means."""
    body = json.dumps({"code": code, "msg": words}).encode()
    return interpret(HttpAnswer(status, headers, body), WALL)


def test_its_own_count_of_weight_is_in_a_header() -> None:
    """Of a good answer and of a bad one."""
    for status in (200, 503):
        said = interpret(HttpAnswer(status, {"x-mbx-used-weight-1m": "1234"}, b"[]"), WALL)
        assert said.used_weight == 1234


@pytest.mark.parametrize("said", ["", "-1", "1e9", "٣", "lots", "9" * 40])
def test_a_weight_that_is_no_number_is_not_heeded(said: str) -> None:
    """Ours stands."""
    assert interpret(HttpAnswer(200, {"x-mbx-used-weight-1m": said}), WALL) == Meaning()


@pytest.mark.parametrize("status", [200, 400, 403, 418, 429, 503])
def test_a_ban_says_until_when_in_its_body(status: int) -> None:
    """In milliseconds of the exchange's clock, whatever the status."""
    meaning = failed(status, -1003, WORDS.format((NOW + 90) * 1000))
    assert (meaning.stop, meaning.retry_after, meaning.passes) == (STOPS[418], 90.0, True)
    assert str(meaning.error).startswith("-1003: Way too many requests")


def test_the_later_of_two_ends_holds() -> None:
    """`Retry-After` and the body need not agree."""
    words = WORDS.format((NOW + 90) * 1000)
    for said, seconds in (("30", 90.0), ("300", 300.0)):
        assert failed(418, -1003, words, **{"retry-after": said}).retry_after == seconds


def test_the_end_of_a_ban_is_by_the_exchanges_clock() -> None:
    """Ours is a day behind; the answer says what theirs shows."""
    words = WORDS.format((NOW + 86_400 + 90) * 1000)
    date = "Thu, 18 Jan 2018 09:06:40 GMT"
    assert failed(418, -1003, words, date=date).retry_after == 90.0


@pytest.mark.parametrize(
    "until", [253_402_300_799_999, (NOW - 1) * 1000, 0, 10**17, (NOW + 4 * 86_400) * 1000]
)
def test_an_end_that_cannot_be_meant_is_none(until: int) -> None:
    """In the year 9999, in the past, beyond the longest ban: it is a ban all the same."""
    meaning = failed(418, -1003, WORDS.format(until))
    assert (meaning.stop, meaning.retry_after) == (STOPS[418], None)
    longest = failed(418, -1003, WORDS.format((NOW + 3 * 86_400) * 1000))
    assert longest.retry_after == LONGEST_STOP


@pytest.mark.parametrize("status", [200, 400, 403, 503])
def test_too_many_requests_stop_the_host_under_any_status(status: int) -> None:
    """Its code says so."""
    meaning = failed(status, -1003, "Too many requests.")
    assert (meaning.stop, meaning.passes) == (STOPS[429], True)
    assert meaning.error == "-1003: Too many requests."


@pytest.mark.parametrize(
    ("status", "code", "passes"),
    [
        (400, -1121, False),
        (400, -4108, False),
        (400, -1000, True),
        (400, -1102, True),
        (503, -1008, True),
        (403, -1000, False),
        (451, 0, False),
        (400, 7, False),
    ],
)
def test_an_error_passes_but_where_a_symbol_is_unknown(
    status: int, code: int, passes: bool
) -> None:
    """Or where we are not wanted; nobody is stopped by it."""
    meaning = failed(status, code)
    assert (meaning.passes, meaning.stop) == (passes, None)
    assert meaning.error == (f"{code}: words" if code < 0 else f"status {status}")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"<html>", b"\xff", b'{"code":200,"msg":"ok"}', b"[" * 5000, b" " * 9999],
)
def test_a_body_that_tells_no_error_means_what_its_status_does(body: bytes) -> None:
    """Data, nothing, or the firewall's words."""
    assert interpret(HttpAnswer(200, {}, body), WALL) == Meaning()
    assert interpret(HttpAnswer(502, {}, body), WALL) == Meaning("status 502")
