"""Mutants of what happens when a process begins where another ended."""

from typing import Any

import pytest
from mutants import mutant

from marketprism.records import Gap
from marketprism.resume import cursors
from marketprism.resume.lookup import Lookup
from marketprism.resume.positions import Positions
from marketprism.streams.cursor import Cursor


@mutant("binance_derivatives", "garbage", restarts=10.0)
def a_new_process_knows_nothing_of_the_last(patch: pytest.MonkeyPatch) -> None:
    """It begins as if the stream were empty."""
    patch.setattr(Positions, "cursor", lambda *_: Cursor())


@mutant("okx_derivatives", "broker_killed", "broker_killed", "garbage", restarts=10.0, first=4)
def a_position_that_comes_late_is_of_no_use(patch: pytest.MonkeyPatch) -> None:
    """Where the sink was away at the start, nobody tells the gap."""
    patch.setattr(Lookup, "gap_before", lambda *_: None)


@mutant("okx_derivatives", "garbage", restarts=8.0, first=3)
def each_restart_tells_the_same_gap(patch: pytest.MonkeyPatch) -> None:
    """Until the next record."""

    def hides(_gap: Gap, _record: Any) -> bool:
        return False

    patch.setattr(cursors, "_may_hide", hides)
