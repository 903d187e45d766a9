"""Which streams share a connection."""

from collections.abc import Mapping, Sequence

import attrs

from marketprism.feeds.binance.market import Market
from marketprism.feeds.binance.session import BinanceSession
from marketprism.feeds.venue import REFUSED_RETRY, Cursor, Session, Shard, Stream, Want
from marketprism.settings import VenueConfig


@attrs.frozen
class BinanceShard:
    """What one connection carries."""

    id: str
    wants: tuple[Want, ...]
    market: Market
    settings: VenueConfig

    def open(
        self, cursors: Mapping[Stream, Cursor], refused_retry: float = REFUSED_RETRY
    ) -> Session:
        return BinanceSession(
            self.id, self.market, self.settings, self.wants, cursors, refused_retry
        )


def spread(wants: Sequence[Want], current: Sequence[Shard], room: int) -> list[list[Want]]:
    """Wants by connection: an instrument's share one, and they are filled one by one.

    What is in `current` stays where it is, in that order; what comes takes the room that others
    left.
    """
    wanted = set(wants)
    groups = [[want for want in shard.wants if want in wanted] for shard in current]
    placed = {want for group in groups for want in group}
    by_instrument: dict[str, list[Want]] = {}
    for want in wants:
        if want not in placed:
            by_instrument.setdefault(want.instrument.native_id, []).append(want)
    for together in by_instrument.values():
        group = next((each for each in groups if len(each) + len(together) <= room), None)
        if group is None:
            groups.append(group := [])
        group += together
    return groups
