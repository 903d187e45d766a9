"""What the log says of silent streams."""

import structlog
from structlog.testing import capture_logs

from marketprism.feeds.freshness import Remedy
from marketprism.feeds.silence_log import tell_silences
from marketprism.records import DataType


def test_one_that_is_silent_is_logged_as_it_is() -> None:
    """Which, how long it may be, and what is done about it."""
    with capture_logs() as lines:
        tell_silences(structlog.get_logger(), [((DataType.TRADE, "BTCUSDT"), Remedy.RENEW, 30.4)])
    assert lines == [
        {
            "log_level": "warning",
            "event": "stream.silent",
            "data_type": "trade",
            "instrument": "BTCUSDT",
            "answer": "renew",
            "seconds": 30,
        }
    ]


def test_a_halt_is_one_line_for_each_answer_and_each_stream_at_debug() -> None:
    """Twenty at once are one cause."""
    silent = [((DataType.TRADE, f"A{n}"), Remedy.RENEW, 30.0 + n) for n in range(20)]
    silent.append(((DataType.ORDERBOOK, "B"), Remedy.UNHEALTHY, 90.0))
    with capture_logs() as lines:
        tell_silences(structlog.get_logger(), silent)
    warned = [line for line in lines if line["log_level"] == "warning"]
    assert [(line["event"], line["answer"]) for line in warned] == [
        ("streams.silent", "renew"),
        ("stream.silent", "unhealthy"),
    ]
    assert (warned[0]["streams"], warned[0]["seconds"]) == (20, 30)
    assert sum(line["log_level"] == "debug" for line in lines) == 20


def test_nothing_silent_is_nothing_said() -> None:
    """A look each quarter of a second."""
    with capture_logs() as lines:
        tell_silences(structlog.get_logger(), [])
    assert lines == []
