"""The judge: from what the exchanges said and what is stored, every breach of R1, in words.

It shares no code with the collector: it reads payloads as a user would, and messages as the
exchange wrote them.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs
import facts
import judge_books
import judge_series
from broker import Stored
from facts import Fact
from truth import Truthful

from marketprism.resume.lookup import CONNECTION

LATENCY = 2.0
"""Seconds from what is said to what is stored, when all is well."""
Key = tuple[str, str, str, str]
"""Exchange, market type, data type, symbol."""


UNCOUNTED = {("okx", "trade")}
"""Streams whose ids do not count: a position that came late cannot show that nothing is missing."""


@attrs.frozen
class Terms:
    """What a run promised."""

    live_from: float
    """By then every stream must be live again, in virtual seconds."""
    until: float
    """What was said before then must have come."""
    trade_kind: str
    depth: int
    every: float | None = None
    """Seconds between two snapshots of a book, where there is nothing else of it."""
    stops: Sequence[tuple[float, float]] = ()
    """From when to when the collector was being stopped in order."""
    began: float = 0.0
    """The collector's own time when virtual time was 0, in seconds since the epoch."""


@attrs.frozen
class Entry:
    """A stored record or gap of one stream."""

    at: float
    fields: dict[str, Any]
    unsure: bool = False
    """Whether something was missing, nobody knew: it was told while the collector was being
    stopped, and says what was still open then; or a new process learned too late where a stream
    of trades had been, whose ids do not count (OKX)."""

    @property
    def is_gap(self) -> bool:
        return bool(self.fields["data_type"] == "gap")

    @property
    def is_ahead(self) -> bool:
        """Whether it says a time that was to come, by a clock of ours that may have been set."""
        told, read = self.fields["timestamp"], self.fields["collected_at"]
        return told is not None and facts.milliseconds(told) - facts.milliseconds(read) > 60_000


def judged(
    exchanges: Iterable[Truthful],
    offers: Mapping[str, Sequence[str]],
    stored: Sequence[Stored],
    terms: Terms,
) -> list[str]:
    """Every breach, in words; `offers` are the data types by venue."""
    breaches: list[str] = []
    entries: dict[Key, list[Entry]] = defaultdict(list)
    ids: dict[str, int] = {}
    open_gaps: dict[Key, set[str]] = defaultdict(set)
    """Of books, by native id: when those began that no snapshot has healed yet."""
    for position, message in enumerate(stored):
        if message.msg_id in ids:
            breaches.append(f"stored twice: {message.msg_id} at {ids[message.msg_id]}, {position}")
        ids[message.msg_id] = position
        fields = json.loads(message.payload)
        if fields["data_type"] == "trade" and message.msg_id != _trade_id(fields):
            breaches.append(f"{message.msg_id} is not {_trade_id(fields)}")
        gap = fields["data_type"] == "gap"
        data_type = fields["affected"] if gap else fields["data_type"]
        key = (fields["exchange"], fields["market_type"], data_type, fields["symbol"])
        # What went by the disk is stored by the next process.
        told = facts.milliseconds(fields["collected_at"]) / 1000 - terms.began
        stopped = any(
            began - 0.001 <= at <= ended
            for began, ended in terms.stops
            for at in (message.at, told)
        )
        late = (fields["exchange"], data_type) in UNCOUNTED and fields.get(
            "connection"
        ) == CONNECTION
        entries[key].append(Entry(message.at, fields, gap and (stopped or late)))
        if data_type == "orderbook":
            breaches += _unhealed(
                message.msg_id, fields, open_gaps[(*key[:3], fields["instrument_id"])]
            )
        if gap and not fields["detail"]:
            breaches.append(f"{message.msg_id} says no cause")
        if not message.subject.endswith("." + fields["symbol"]):
            breaches.append(f"{message.subject} holds {fields['symbol']}")
    for exchange in exchanges:
        for native in exchange.symbols:
            symbol = facts.symbol_of(exchange.venue, native)
            for data_type in offers[exchange.venue]:
                key = (*facts.MARKETS[exchange.venue], data_type, symbol)
                found = entries.pop(key, [])
                words = _stream(exchange, native, data_type, found, terms)
                breaches += [f"{'/'.join(key)}: {each}" for each in words]
    breaches += [f"{key}: nobody asked for it" for key in entries]
    return breaches


def _stream(
    exchange: Truthful, native: str, data_type: str, entries: list[Entry], terms: Terms
) -> list[str]:
    """What is wrong with one stream."""
    if data_type == "orderbook":
        breaches = judge_books.judged(exchange, native, entries, terms)
    elif data_type in judge_series.JUDGES:
        breaches = judge_series.JUDGES[data_type](exchange, native, entries, terms)
    elif (exchange.venue, data_type) == ("binance_derivatives", "open_interest"):
        breaches = judge_series.polled_interest(exchange, native, entries, terms)
    else:
        told = facts.of(exchange, data_type, native, terms.trade_kind)
        breaches = sequence(told, entries, facts.IDENTITY[data_type], data_type, terms)
        if data_type == "trade":
            # A gap ends with the next that is said, and in a quiet market that comes late.
            said = (fact.at for fact in told if fact.at >= terms.live_from)
            return [*_gaps(entries, next(said, math.inf) + LATENCY), *breaches]
    return [*_gaps(entries, terms.live_from), *breaches]


def _unhealed(msg_id: str, fields: dict[str, Any], began: set[str]) -> Iterable[str]:
    """Whether a snapshot of a book names one of the gaps before it, where there are any."""
    if fields["data_type"] == "gap":
        began.add(msg_id.rpartition(":")[2])
        if fields["connection"] == CONNECTION:
            # What it goes ahead of was accepted, with its id, before anybody knew of it.
            began.add("0")
    elif fields["update_type"] == "snapshot":
        healed = msg_id.rpartition(":")[2]
        if (healed not in began) if began else healed != "0":
            yield f"{msg_id} heals none of the gaps that began at {sorted(began)}"
        began.clear()


def _trade_id(fields: dict[str, Any]) -> str:
    """The message id of a trade, by the contract."""
    names = ("data_type", "exchange", "market_type", "symbol", "trade_kind", "trade_id")
    ident = ":".join(fields[name] for name in names)
    if (fields["exchange"], fields["trade_kind"]) == ("binance", "aggregated"):
        ident += f":{fields['first_trade_id']}-{fields['last_trade_id']}"
    return ident


def _gaps(entries: list[Entry], live_from: float) -> Iterable[str]:
    for entry in entries:
        if entry.is_gap and entry.at > live_from:
            yield f"not live again in time: {_told(entry)}"
        if entry.is_gap and entry.fields["ended_at"] < entry.fields["started_at"]:
            yield f"a gap ends before it starts: {_told(entry)}"


def sequence(
    told: list[Fact], entries: list[Entry], named: str, data_type: str, terms: Terms
) -> list[str]:
    """Records that are facts: each once, in order, none missing but within a gap."""
    breaches: list[str] = []
    places = {fact.identity: place for place, fact in enumerate(told)}
    last, gaps = None, []
    early: set[int] = set()
    """Told though others before it were missing: of a time to come, the next says whether."""
    for entry in entries:
        if entry.is_gap:
            gaps.append(entry)
            continue
        identity = str(entry.fields[named])
        place = places.get(identity)
        if place is None:
            breaches.append(f"{identity} was never said")
            continue
        breaches += list(_compared(told[place], entry))
        if last is not None and place <= last:
            breaches.append(f"{identity} comes after {told[last].identity}")
            continue
        if last is not None:
            if place in early:
                breaches.append(f"{identity} comes twice")
            if told[place].number is not None and entry.is_ahead and place > last + 1:
                early.add(place)
                continue
            between = [told[each] for each in range(last + 1, place) if each not in early]
            missing = [fact for fact in between if fact.required]
            # An id that is a name shows of no gap that it was about nothing.
            proven = data_type == "trade" and identity.isdecimal()
            breaches += list(_covered(missing, gaps, identity, terms, proven=proven))
        last, gaps = place, []
    if last is None:
        return [*breaches, "nothing came"] if told and data_type != "liquidation" else breaches
    others = [told[each] for each in range(last + 1, len(told)) if each not in early]
    rest = [fact for fact in others if fact.required and fact.at < terms.until]
    breaches += list(_covered(rest, gaps, "the end", terms, proven=False))
    return breaches


def _compared(fact: Fact, entry: Entry) -> Iterable[str]:
    for name, value in fact.shown.items():
        found = entry.fields[name]
        same = Decimal(found) == value if isinstance(value, Decimal) else found == value
        if not same:
            yield f"{fact.identity}: {name} is {found}, the exchange said {value}"


def _covered(
    missing: list[Fact], gaps: list[Entry], before: str, terms: Terms, *, proven: bool
) -> Iterable[str]:
    """Whether what is missing lies in gaps, and whether the gaps are about something."""
    if missing and not gaps:
        yield f"{len(missing)} lost before {before}, the first {missing[0].identity}"
    late = [fact for fact in missing if fact.at >= terms.live_from]
    if late:
        yield f"{late[0].identity} is missing though all was well"
    warranted = missing or any(gap.unsure for gap in gaps)
    if gaps and not warranted and proven and before != "the end":
        yield f"a gap where nothing is missing, before {before}: {_told(gaps[0])}"
    numbers = [fact.number for fact in missing]
    bounds = [
        (gap.fields["first_missing_id"], gap.fields["last_missing_id"])
        for gap in gaps
        if gap.fields["first_missing_id"] is not None
    ]
    if proven and bounds and len(bounds) == len(gaps) and None not in numbers:
        # What overflowed may lie around what a connection missed: together they are exact.
        claimed = {n for first, last in bounds for n in range(int(first), int(last) + 1)}
        if claimed != set(numbers):
            yield f"gaps claim {bounds}, missing are {numbers[:3]}…{numbers[-3:]}"
        lost = sum(gap.fields["lost"] or 0 for gap in gaps)
        if lost != len(numbers):
            yield f"gaps count {lost}, missing are {len(numbers)}"


def _told(entry: Entry) -> str:
    names = ("reason", "started_at", "ended_at", "first_missing_id", "last_missing_id", "lost")
    return ", ".join(f"{name} {entry.fields[name]}" for name in names) + f" (stored {entry.at:.3f})"
