"""What is on disk alone, and what is said of it when it cannot be had any more."""

import json
from itertools import count

from market_log import START, Feed

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.outbox.lost_stretches import LostStretches
from marketprism.outbox.unread import Unread
from marketprism.records import DataType


def test_where_gaps_were_lost_nobody_claims_to_know_how_many() -> None:
    """In whatever order the gaps and what they speak of were written."""
    for gap_first in (True, False):
        feed, absent = Feed(), Unread()
        gap, trade = feed.gap(DataType.TRADE), feed.trade()
        absent.add([(2, gap), (4, trade)] if gap_first else [(2, trade), (4, gap)])
        losses = LostStretches(Board(), lambda: Timestamp(START, 1))
        absent.lose(losses, 2, 4)
        ((_, told),) = losses.rest(count(5).__next__, closed=True)
        assert json.loads(told.payload)["lost"] is None
