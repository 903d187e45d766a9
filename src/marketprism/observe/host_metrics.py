"""Metrics of the hosts: their budgets, and whether they are left alone."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.observe.families import counter, gauges
from marketprism.supervise import BreakerState

_OPENNESS = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}


def hosts(board: Board) -> Iterator[Metric]:
    """What hosts allow, and whether they can be reached."""
    rows = board.hosts.values()
    yield gauges(
        "rest_weight_used",
        "Request weight used of a host's budget in its current window.",
        ["host"],
        {(row.host,): row.used_weight for row in rows},
    )
    yield gauges(
        "rest_weight_limit",
        "Request weight that we allow ourselves at a host in a window; 0: not known.",
        ["host"],
        {(row.host,): row.weight_limit for row in rows},
    )
    yield gauges(
        "rest_waiting_requests",
        "Requests that wait for room in a host's budget.",
        ["host"],
        {(row.host,): row.waiting for row in rows},
    )
    yield gauges(
        "host_reachable",
        "1 while a host can be reached; absent until it was tried.",
        ["host"],
        {(row.host,): row.reachable for row in rows if row.reachable is not None},
    )


def breakers(board: Board, now: Timestamp) -> Iterator[Metric]:
    """What is left alone, and what fell silent."""
    states = {key: breaker.state(now.monotonic) for key, breaker in board.breakers.items()}
    yield gauges(
        "breaker_open",
        "Whether a host is left alone: 1 open, 0.5 half-open, 0 closed.",
        ("kind", "host"),
        {key: _OPENNESS[state] for key, state in states.items()},
    )
    yield counter(
        "stream_silences",
        "Silences of streams that were answered, by what was done.",
        ("venue", "data_type", "answer"),
        board.silences,
    )
