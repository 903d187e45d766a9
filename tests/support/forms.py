"""How far a test goes: a short form in the default run, the long one in `nox -s faults`."""

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T", int, float)
C = TypeVar("C")

LONG = os.environ.get("MARKETPRISM_LONG") == "1"


def form(short: T, long: T) -> T:
    """What is meant in this run."""
    return long if LONG else short


def some(cases: Iterable[C], *left_out: C) -> list[C]:
    """Cases that the default run has: all but those whose like it has already."""
    return [case for case in cases if LONG or case not in left_out]
