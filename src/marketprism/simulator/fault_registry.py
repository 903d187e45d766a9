"""What may be asked for as a fault, and what faults reach into."""

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from .connection import Connection
from .events import Message
from .skin import Skin
from .source import Source
from .standings import Standings

P = ParamSpec("P")
R = TypeVar("R")


class Noting(Protocol):
    """Notes the faults that were done."""

    done: list[dict[str, object]]


F = TypeVar("F", bound=Noting)

FAULTS: dict[str, Callable[..., object]] = {}
"""By name, what may be asked for over HTTP."""


def fault(
    method: Callable[Concatenate[F, P], R],
) -> Callable[Concatenate[F, P], R]:
    """Register a fault, and note each time it is done."""

    @wraps(method)
    def noted(faults: F, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result = method(faults, *args, **kwargs)
        asked = inspect.signature(method).bind(faults, *args, **kwargs).arguments
        asked.pop(next(iter(asked)))
        faults.done.append({"fault": method.__name__, **asked, "result": result})
        return result

    FAULTS[method.__name__] = noted
    return noted


class Target(Protocol):
    """The exchange, as far as faults reach into it."""

    skin: Skin
    source: Source
    standings: Standings
    connections: dict[int, Connection]
    last_trades: dict[str, Message]

    @property
    def symbols(self) -> Collection[str]:
        """What is listed."""

    def now_ms(self) -> int:
        """The exchange's clock, milliseconds since the epoch."""
