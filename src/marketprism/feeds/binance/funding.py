"""How often the perpetuals are funded, as far as Binance has told. Pure."""

from collections.abc import Iterable
from typing import Final

import attrs

from marketprism.feeds.binance.rest_messages import FundingInfo

USUAL_HOURS: Final = 8
"""Between two funding times, of symbols that `fundingInfo` does not name."""


@attrs.define(eq=False)
class FundingHours:
    """What `fundingInfo` says. It names the symbols that are not funded every 8 hours, so without
    it nothing is known of any, and of one whose row lacks the hours nothing either.
    """

    known: bool = False
    """It was read."""
    _hours: dict[str, int | None] = attrs.field(factory=dict)

    def learn(self, rows: Iterable[FundingInfo]) -> None:
        """It was read, anew."""
        self.known = True
        self._hours = {row.symbol: row.hours for row in rows}

    def of(self, symbol: str) -> int | None:
        """Hours between two funding times of a symbol; None where nobody said."""
        return self._hours.get(symbol, USUAL_HOURS) if self.known else None
