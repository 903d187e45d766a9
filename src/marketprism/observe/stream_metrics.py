"""Metrics of the streams."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.observe.families import MARKET, ORIGIN, counter, gauges
from marketprism.observe.report import age


def streams(board: Board, now: Timestamp) -> Iterator[Metric]:
    """The streams, by what they are of."""
    ages: dict[tuple[str, ...], float] = {}
    states: Counter[tuple[str, ...]] = Counter()
    resyncs: Counter[tuple[str, ...]] = Counter()
    duplicates: Counter[tuple[str, ...]] = Counter()
    ahead: Counter[tuple[str, ...]] = Counter()
    audits: Counter[tuple[str, ...]] = Counter()
    for row in board.stream_rows():
        instrument = row.instrument
        origin = (instrument.exchange, instrument.market_type, str(row.data_type))
        states[*origin, row.state] += 1
        resyncs[origin] += row.resyncs
        duplicates[origin] += row.duplicates
        ahead[origin] += row.stamps_ahead
        for outcome, times in row.audits.items():
            audits[*origin[:2], outcome] += times
        if row.standing is not None:
            continue  # it has nothing to say
        silent = age(row.heard or board.started, now) or 0.0
        # Two instruments may bear one symbol; the same labels must not come twice.
        series = (*origin, instrument.symbol)
        ages[series] = max(silent, ages.get(series, 0.0))
    yield gauges(
        "stream_age_seconds",
        "Time since a stream's last record; since the start where there was none.",
        (*ORIGIN, "symbol"),
        ages,
    )
    yield gauges("streams", "Streams, by what state they are in.", (*ORIGIN, "state"), states)
    yield counter("resyncs", "Times that a stream was synchronised again.", ORIGIN, resyncs)
    yield counter(
        "duplicate_records",
        "Records that an exchange told again, dropped here.",
        ORIGIN,
        duplicates,
    )
    yield counter(
        "stamps_ahead",
        "Events whose time was still to come: told once, and no progress.",
        ORIGIN,
        ahead,
    )
    yield counter(
        "book_audits",
        "Comparisons of books with fresh snapshots, by what came of them.",
        (*MARKET, "outcome"),
        audits,
    )
