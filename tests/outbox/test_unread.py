"""What is on disk alone, and what is said of it when it cannot be had any more."""

import json

from market_log import Feed

from marketprism.gaps.ids import GapStarts
from marketprism.outbox.contents import LostBlock
from marketprism.outbox.damage import Damage
from marketprism.outbox.unread import Unread
from marketprism.records import DataType


def test_where_gaps_were_lost_nobody_claims_to_know_how_many() -> None:
    """In whatever order the gaps and what they speak of were written."""
    for gap_first in (True, False):
        feed, absent = Feed(), Unread()
        gap, trade = feed.gap(DataType.TRADE), feed.trade()
        absent.add([(2, gap), (4, trade)] if gap_first else [(2, trade), (4, gap)])
        damage = Damage(GapStarts())
        ((_, told),) = damage.lose(LostBlock(2, 4, tuple(absent.lose())))
        assert json.loads(told.payload)["lost"] is None
