"""How far a test goes: a short form in the default run, the long one in `nox -s faults`."""

import os
from typing import TypeVar

T = TypeVar("T", int, float)

LONG = os.environ.get("MARKETPRISM_LONG") == "1"


def form(short: T, long: T) -> T:
    """What is meant in this run."""
    return long if LONG else short
