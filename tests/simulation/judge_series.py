"""The judge of what has a rhythm of its own: the volatility index, and what is polled."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import facts
import trio
from truth import STAMPED_AHEAD, Truthful

from marketprism.simulator import binance_derivatives_rest
from marketprism.simulator.figures import long_share, volatility
from marketprism.simulator.listings import text
from marketprism.simulator.perpetual import open_interest

if TYPE_CHECKING:
    from judge import Entry, Terms

ROW = 300_000
"""Milliseconds between two rows of a ratio."""
ROW_WITHIN = 60.0
"""Seconds after which a row must have been asked for."""
USUAL_STEP, LONGEST_STEP = 1_050, 2_100
"""Milliseconds between two values of an index, live or filled in by the second."""
LONGEST_POLL = 25.0
"""Seconds between two records of what is polled every ten, when all is well."""


def _steps(
    entries: "list[Entry]",
    usual: int,
    longest: int,
    breaches: list[str],
    misdated: "Callable[[Entry], bool]" = lambda _entry: False,
) -> None:
    """Times only grow, of what says no time to come; a step over the longest has a gap, and a gap
    is more than a usual step. What was told with a time to come lies between its neighbours.
    """
    last, gaps, longest_now = None, [], longest
    for entry in entries:
        if entry.is_gap:
            gaps.append(entry)
            continue
        if misdated(entry):
            longest_now += usual
            continue
        at = facts.milliseconds(entry.fields["timestamp"])
        if last is not None and at <= last:
            breaches.append(f"{at} comes after {last}")
        elif last is not None and at - last > longest_now and not gaps:
            breaches.append(f"nothing between {last} and {at}, and no gap")
        elif last is not None and at - last <= usual and gaps and not gaps[-1].unsure:
            breaches.append(f"a gap where nothing is missing, before {at}")
        last, gaps, longest_now = at, [], longest


def index(exchange: Truthful, native: str, entries: "list[Entry]", terms: "Terms") -> list[str]:
    """A value each second; what a connection missed is filled in with what candles close at."""

    def said(entry: "Entry", later: int = 0) -> bool:
        second, rest = divmod(facts.milliseconds(entry.fields["timestamp"]), 1000)
        true = volatility(exchange.seed, native, (second if rest else second - 1) - later)
        return float(entry.fields["volatility_index"]) == true

    def misdated(entry: "Entry") -> bool:
        return entry.is_ahead and not said(entry) and any(said(entry, s) for s in STAMPED_AHEAD)

    breaches: list[str] = []
    _steps(entries, USUAL_STEP, LONGEST_STEP, breaches, misdated)
    records = [entry for entry in entries if not entry.is_gap]
    for entry in records:
        if not said(entry) and not misdated(entry):
            at, value = entry.fields["timestamp"], entry.fields["volatility_index"]
            breaches.append(f"{at}: {value} is not what was said")
    if not records or records[-1].at < terms.until - 3:
        breaches.append("it ended early")
    return breaches


def ratio(name: str, field: str) -> Callable[..., list[str]]:
    """Rows of five minutes, each once."""

    def judge(exchange: Truthful, native: str, entries: "list[Entry]", terms: "Terms") -> list[str]:
        breaches: list[str] = []
        _steps(entries, ROW, ROW, breaches)
        records = [entry for entry in entries if not entry.is_gap]
        for entry in records:
            at = facts.milliseconds(entry.fields["timestamp"])
            true = long_share(exchange.seed, name, native, at)
            # OKX tells the ratio alone, to four digits.
            if abs(float(entry.fields[field]) - true) > 2e-4:
                breaches.append(f"{at}: {entry.fields[field]} is not {true}")
        due = exchange.now_ms() - round(1000 * (trio.current_time() - terms.until + ROW_WITHIN))
        old = not records or facts.milliseconds(records[-1].fields["timestamp"]) < due - due % ROW
        # A row, the first one too, may be what the channel had no room for: then a gap says so, and
        # the next row is minutes away.
        if old and not (entries and entries[-1].is_gap):
            breaches.append("its last row is old")
        return breaches

    return judge


def polled_interest(
    exchange: Truthful, native: str, entries: "list[Entry]", terms: "Terms"
) -> list[str]:
    """Values that the exchange had at their time, in order."""
    breaches: list[str] = []
    last = 0
    records = [entry for entry in entries if not entry.is_gap]
    for entry in records:
        at = facts.milliseconds(entry.fields["timestamp"])
        listing = binance_derivatives_rest.listing(native)
        true = text(open_interest(exchange.seed, listing, at), 3)
        if float(entry.fields["open_interest"]) != float(true):
            breaches.append(f"{at}: {entry.fields['open_interest']} is not {true}")
        if at <= last:
            breaches.append(f"{at} comes after {last}")
        last = at
    if not records or records[-1].at < terms.until - LONGEST_POLL:
        breaches.append("it ended early")
    return breaches


JUDGES = {
    "volatility_index": index,
    "lsr_top_position": ratio("top position", "long_position_ratio"),
    "lsr_all_account": ratio("all account", "long_account_ratio"),
}
