"""Families of metrics, as Prometheus reads them, under our prefix."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from marketprism.board.tally import Tally

Key = TypeVar("Key", bound=tuple[str, ...])
"""The values of a family's labels."""

MARKET = ("exchange", "market_type")
ORIGIN = (*MARKET, "data_type")


def gauge(name: str, help_text: str, value: float) -> Metric:
    """One number."""
    return GaugeMetricFamily(f"marketprism_{name}", help_text, value=value)


def gauges(
    name: str,
    help_text: str,
    labels: Sequence[str],
    values: Mapping[Key, float],
) -> Metric:
    """A number for each combination of labels."""
    family = GaugeMetricFamily(f"marketprism_{name}", help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def counter(
    name: str,
    help_text: str,
    labels: Sequence[str],
    counts: Mapping[Key, int],
) -> Metric:
    """A count for each combination of labels."""
    family = CounterMetricFamily(f"marketprism_{name}", help_text, labels=labels)
    for key, count in counts.items():
        family.add_metric(key, count)
    return family


def histogram(
    name: str, help_text: str, labels: Sequence[str], tallies: Mapping[Key, Tally]
) -> Metric:
    """What each combination of labels tallied."""
    family = HistogramMetricFamily(f"marketprism_{name}", help_text, labels=labels)
    for key, tally in tallies.items():
        bounds = [*map(floatToGoString, tally.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(tally.counts), strict=True))
        family.add_metric(key, buckets, tally.sum)
    return family
