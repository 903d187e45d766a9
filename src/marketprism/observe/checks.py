"""What a check of /health says, and how. Pure."""

from collections.abc import Iterable
from enum import IntEnum

import attrs

NAMED = 5
"""Troubles of one kind that are named; the rest are counted."""


class Level(IntEnum):
    """How it is; the worst check gives the answer."""

    HEALTHY = 0
    STARTING = 1
    DEGRADED = 2
    UNHEALTHY = 3


@attrs.frozen
class Check:
    """One thing that was looked at."""

    level: Level
    detail: str
    """In words."""


def missing(young: bool, otherwise: Level) -> Level:
    """What is not there yet: still coming, or amiss."""
    return Level.STARTING if young else otherwise


def few(words: Iterable[str], between: str = "; ") -> str:
    """The first of them, and how many more there are."""
    named = list(words)
    more = [f"and {len(named) - NAMED} more"] if len(named) > NAMED else []
    return between.join(named[:NAMED] + more)
