"""How the markets that a venue collects stand, by what its exchange's list says of them. Pure."""

from collections.abc import Container, Iterable, Iterator
from enum import StrEnum

import attrs

from marketprism.instruments import Instrument

NOT_LISTED = "not listed any more"


class Standing(StrEnum):
    """Whether a market has anything to tell."""

    TRADING = "trading"
    PAUSED = "paused"
    """Halted, suspended, about to open: it may trade later."""
    ENDED = "ended"
    """Settled, delisted, expired."""


@attrs.define(eq=False)
class Market:
    """One market, for as long as the process lives."""

    instrument: Instrument
    """As it was listed when it was first seen."""
    standing: Standing = Standing.TRADING
    status: str = ""
    """What the exchange calls that."""
    idle_until: int = 0
    """Wall nanoseconds: when the exchange last said that it does not trade."""
    missing: bool = False
    """The last list did not have it."""

    def on_event(self, row: Instrument | None, wall: int, *, speaks: bool = False) -> bool:
        """What a list says of it; whether it stands otherwise than before.

        A single list without it is not believed: an exchange's may lack rows for a while. Nor is
        any, while what it `speaks` says otherwise.
        """
        before = self.standing
        if row is not None:
            self.missing, self.status = False, row.native_status
            idle = Standing.ENDED if row.ended else Standing.PAUSED
            self.standing = Standing.TRADING if row.trading else idle
        elif self.missing and not speaks:
            self.standing, self.status = Standing.ENDED, NOT_LISTED
        else:
            self.missing = True
            return False
        if self.standing is not Standing.TRADING:
            self.idle_until = wall
        return self.standing is not before


@attrs.define(eq=False)
class Markets:
    """All that were chosen, by the exchange's own names."""

    _known: dict[str, Market] = attrs.field(factory=dict)

    def __iter__(self) -> Iterator[Market]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    @property
    def trading(self) -> set[str]:
        """The native ids of those that trade."""
        known = self._known.items()
        return {native_id for native_id, each in known if each.standing is Standing.TRADING}

    def learn(
        self,
        listed: Iterable[Instrument],
        chosen: Iterable[Instrument],
        wall: int,
        speaking: Container[str] = (),
    ) -> list[Market]:
        """A list was read that was asked for at `wall`: the markets that are new, or stand
        otherwise than before. Those that are `speaking`, by native id, say something now.
        """
        rows = {row.native_id: row for row in listed}
        changed = []
        for native_id, market in self._known.items():
            if market.on_event(rows.get(native_id), wall, speaks=native_id in speaking):
                changed.append(market)
        by_symbol = {each.instrument.symbol: each for each in self}
        # Those that trade first: another row with the same symbol is a placeholder.
        for instrument in sorted(chosen, key=lambda each: not each.trading):
            if instrument.native_id in self._known:
                continue
            if (before := by_symbol.get(instrument.symbol)) is not None:
                if not instrument.trading or before.standing is Standing.TRADING:
                    continue
                # The symbol is this market's now.
                del self._known[before.instrument.native_id]
            market = by_symbol[instrument.symbol] = Market(instrument)
            self._known[instrument.native_id] = market
            market.on_event(instrument, wall)
            changed.append(market)
        return changed
