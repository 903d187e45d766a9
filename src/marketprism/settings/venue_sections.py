"""The section of each venue: which of them to collect, and what is wrong with any."""

import re
from collections.abc import Collection, Iterator, Mapping

from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.settings.nearest_names import as_currency, as_symbol, meant, suggestion
from marketprism.settings.structuring import Key, Problem, structure
from marketprism.streams.subscription import Capability

Offers = Mapping[DataType, Capability]
"""What a venue has."""

_SYMBOL = re.compile(r"\*|[^\s-]+-[^\s-]+")
_CURRENCY = re.compile(r"[^\s-]+")


def venues_to_collect(
    raw: object,
    venues: Mapping[str, Offers],
    only: Collection[str],
    problems: list[Problem],
) -> dict[str, VenueConfig]:
    """Those to collect; what is wrong with any of them is added to the problems."""
    if not isinstance(raw, Mapping) or not raw:
        problems.append((("exchanges",), _no_sections(raw, venues)))
        return {}
    collected = {}
    for name, section in raw.items():
        at = ("exchanges", name)
        if name not in venues:
            problems.append((at, _unknown_venue(name, venues)))
            continue
        if section is not None and not isinstance(section, Mapping):
            example = f"{{symbols: [{_example(venues, name)}]}}"
            problems.append((at, f"must be a section of keys, as in {example}"))
            continue
        venue = _venue(name, section or {}, venues[name], problems)
        if venue is not None and (name in only or (venue.enabled and not only)):
            collected[name] = venue
    problems += _not_there(only, raw, venues)
    if not collected and not problems:
        problems.append((("exchanges",), "none of them is enabled"))
    return collected


def _no_sections(raw: object, venues: Mapping[str, Offers]) -> str:
    """Why these are no sections, with an example of one."""
    names = raw if isinstance(raw, list) else [raw]
    first = next((name for name in names if isinstance(name, str) and name in venues), None)
    example = f"{first or next(iter(venues))}: {{symbols: [{_example(venues, first)}]}}"
    reason = "must be a section of keys, one a venue" if raw else "must name at least one venue"
    return f"{reason}, as in {{{example}}}"


def _venue(
    name: str, section: Mapping[str, object], offers: Offers, problems: list[Problem]
) -> VenueConfig | None:
    """One of them; None where something of it cannot be read."""
    at = ("exchanges", name)
    keys = {"data_types": _in_order(offers), **section}
    if "name" in keys:
        problems.append(((*at, "name"), "unknown key"))
    venue, wrong = structure({**keys, "name": name}, VenueConfig, at)
    problems += wrong
    judged = venue
    if judged is None:
        # What is right of it is judged all the same, so that everything is told at once.
        bad = {key[len(at)] for key, _ in wrong if len(key) > len(at)}
        rest = {key: value for key, value in keys.items() if key not in bad}
        rest.setdefault("data_types", _in_order(offers))
        judged, _ = structure({**rest, "name": name}, VenueConfig, at)
    if judged is not None:
        problems += _venue_problems(judged, offers, at)
    return venue


def _not_there(
    only: Collection[str], configured: Mapping[str, object], venues: Collection[str]
) -> Iterator[Problem]:
    """Those that are asked for, and cannot be had."""
    for name in only:
        if name not in venues:
            yield (f"--exchange {name}",), _unknown_venue(name, venues)
        elif name not in configured:
            there = ", ".join(map(str, configured))
            yield (f"--exchange {name}",), f"not configured (exchanges names {there})"


def _in_order(offers: Collection[DataType]) -> list[DataType]:
    return [data_type for data_type in DataType if data_type in offers]


def _venue_problems(venue: VenueConfig, offers: Offers, at: Key) -> Iterator[Problem]:
    if not venue.symbols:
        yield (*at, "symbols"), "must name at least one"
    if not venue.data_types:
        yield (*at, "data_types"), "must name at least one"
    for number, data_type in enumerate(venue.data_types):
        if data_type not in offers:
            offered = ", ".join(_in_order(offers))
            reason = f"{data_type} is not offered by this venue (it offers {offered})"
            yield (*at, "data_types", number), reason
    bare = _bare(offers)
    shape, example = (_CURRENCY, "BTC") if bare else (_SYMBOL, "BTC-USDT or *-USDT")
    for number, symbol in enumerate(venue.symbols):
        if not shape.fullmatch(symbol) or symbol != symbol.upper():
            guess = as_currency(symbol) if bare else as_symbol(symbol)
            hint = meant([guess] if guess is not None and shape.fullmatch(guess) else [])
            yield (*at, "symbols", number), f"must look like {example}, in upper case{hint}"


def _bare(offers: Offers) -> bool:
    """Whether its symbols are currencies and not pairs."""
    return all(has.by_currency for has in offers.values())


def _example(venues: Mapping[str, Offers], name: str | None) -> str:
    """A symbol as that venue, or the first, has them."""
    return "BTC" if _bare(venues[name or next(iter(venues))]) else "BTC-USDT"


def _unknown_venue(name: object, venues: Collection[str]) -> str:
    hint = suggestion(str(name), venues) or f" (there is {', '.join(venues)})"
    return f"unknown venue{hint}"
