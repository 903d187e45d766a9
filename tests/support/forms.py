"""How far a test goes: a short form in the default run, the long one in `nox -s faults`."""

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T", int, float)
C = TypeVar("C")

AGAIN = os.environ.get("MARKETPRISM_AGAIN") == "1"
LONG = os.environ.get("MARKETPRISM_LONG") == "1"


def form(short: T, long: T) -> T:
    """What is meant in this run."""
    return long if LONG else short


def examples(number: int) -> int:
    """Of a property: all of them in the long form, half by default, and a few where the tests run
    once more, on another Python.
    """
    return number if LONG else max(5, number // (10 if AGAIN else 2))


def some(cases: Iterable[C], *left_out: C) -> list[C]:
    """Cases that the default run has: all but those whose like it has already."""
    return [case for case in cases if LONG or case not in left_out]
