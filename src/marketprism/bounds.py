"""How far an exchange's times and ids are believed. Pure.

What is beyond is no time and no id: 31 December 9999 is a usual "no date", to which nothing can be
added, and a consumer's numbers have 64 bits. So a value is bounded where it is read, and once more
after arithmetic.
"""

from typing import Annotated, Final

import msgspec

LATEST: Final = 4_102_444_800_000
"""2100-01-01, milliseconds since the Unix epoch."""
LARGEST: Final = 2**63 - 1

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=LATEST)]
"""A time, since the Unix epoch."""
Id = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]


def is_time(nanoseconds: int) -> bool:
    """Whether it is a time at all."""
    return 0 <= nanoseconds <= LATEST * 1_000_000


def is_id(value: object) -> bool:
    """Whether it is a number that can be one."""
    return isinstance(value, int) and 0 <= value <= LARGEST


def believed(nanoseconds: int | None) -> int | None:
    """A time that something was added to, where it still is one."""
    return None if nanoseconds is None or not is_time(nanoseconds) else nanoseconds
