"""A venue that was added as ARCHITECTURE.md says: it does all that the others do."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import bourse
import facts
import judge
import pytest
import universe
from facts import Fact, when
from truth import Told
from universe import Plan, lived

from marketprism import feeds, simulator
from marketprism.settings.settings import Config

pytestmark = pytest.mark.once

NAME = "bourse_spot"


def told_trades(told: Told, said: Any, _native: str, _listing: object) -> Iterator[Fact]:
    """What the Bourse said, in the terms of the contract."""
    shown = {
        "price": Decimal(said["price"]),
        "quantity": Decimal(said["size"]),
        "side": said["taker"],
        "timestamp": when(said["at"]),
    }
    yield Fact(said["id"], told.at, shown)


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines in `feeds/__init__.py` and the simulator's table; and what the judge must know."""
    venue = bourse.Bourse
    monkeypatch.setitem(feeds.VENUES, NAME, venue)
    monkeypatch.setitem(feeds.OFFERS, NAME, venue.offers)
    monkeypatch.setitem(feeds._BY_SUBJECT, ("bourse", "spot"), venue.offers)
    monkeypatch.setitem(simulator.SKINS, NAME, bourse.BourseSkin)
    monkeypatch.setitem(facts.MARKETS, NAME, ("bourse", "spot"))
    topic = lambda native, _kind: f"trades:{native}"  # noqa: E731 (as the others of that table)
    monkeypatch.setitem(facts._STREAMS, ("bourse", "trade"), (topic, told_trades))
    monkeypatch.setattr(judge, "UNCOUNTED", {*judge.UNCOUNTED, ("bourse", "trade")})
    symbol_of, packaged = facts.symbol_of, universe.packaged

    def named(venue: str, native: str) -> str:
        return native if venue == NAME else symbol_of(venue, native)

    def configured(venues: tuple[str, ...]) -> Config:
        config = packaged(("okx_spot",))
        like = attrs.evolve(config.exchanges["okx_spot"], name=NAME)
        return attrs.evolve(config, exchanges={NAME: like})

    monkeypatch.setattr(facts, "symbol_of", named)
    monkeypatch.setattr(universe, "packaged", configured)
    monkeypatch.setitem(universe.SYMBOLS, NAME, ("BTC-USDT", "ETH-USDT"))


def planned(seed: int, **changes: Any) -> Plan:
    """A universe with that one exchange."""
    usual: dict[str, Any] = {"trade_kind": "raw", "busy": 1.0, "restarts": 0.0, "life": 0.0}
    return attrs.evolve(Plan.of(seed), venues=(NAME,), **usual | changes)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_doubled_or_wrong_whatever_happens(seed: int) -> None:
    """All kinds of faults, as for any other venue."""
    outcome = lived(planned(seed))
    assert outcome.breaches == []
    assert outcome.stored > 100


@pytest.mark.parametrize("seed", range(2))
def test_its_connections_are_replaced_without_a_gap_in_calm(seed: int) -> None:
    """Trades by their names and times, books by their numbers."""
    outcome = lived(planned(seed, kinds=("garbage",), life=15.0))
    assert outcome.breaches == []
    assert not [each for each in outcome.stream if json.loads(each.payload)["data_type"] == "gap"]


@pytest.mark.parametrize("seed", range(2))
def test_after_a_restart_nothing_is_stored_twice_and_a_gap_is_told(seed: int) -> None:
    """By the latest names of its trades, and the number of its books."""
    outcome = lived(planned(seed, restarts=15.0))
    assert outcome.breaches == []
    reasons = [json.loads(each.payload).get("reason") for each in outcome.stream]
    assert "restart" in reasons


def test_it_is_small() -> None:
    """Trades and books in no more lines than this, beside its simulator skin."""
    files = [path for path in Path(bourse.__file__).parent.glob("*.py") if path.name != "skin.py"]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 550
