"""How often a funding rate is published. Pure: the time is the event's own."""

from typing import Final

import attrs

from marketprism.clock import SECOND

WINDOW: Final = 30 * SECOND
"""Nanoseconds. Windows begin at multiples of it, so that two collectors choose the same events."""


@attrs.define
class FundingSampling:
    """Published is what changed, else the first event of each window of event time."""

    heard: int | None = None
    """The time of the last event, published or not, nanoseconds."""
    _said: tuple[str, int | None] | None = None
    _window: int = -1

    def due(self, rate: str, funding_time: int | None, event_time_ns: int) -> bool:
        """Whether this event is to be published; it is then what later ones are compared with."""
        window = event_time_ns // WINDOW
        self.heard = event_time_ns
        if (rate, funding_time) == self._said and window == self._window:
            return False
        self._said, self._window = (rate, funding_time), window
        return True
