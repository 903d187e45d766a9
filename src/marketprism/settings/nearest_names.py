"""What somebody may have meant: the known names nearest to a word, and symbols as we write them.

Pure. It only makes suggestions for people: nothing is ever decided by a name that looks alike.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

CLOSE: Final = 0.6
"""How alike two names must be, from 0 to 1, to be worth a suggestion."""
MOST: Final = 3
"""Names in one suggestion."""
MOST_NAMED: Final = 5
"""Unknown symbols that are named; the rest are counted."""

_QUOTES: Final = (
    *("FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USD", "DAI"),
    *("BTC", "ETH", "BNB", "EUR", "GBP", "JPY", "TRY", "BRL"),
)
"""What most things are priced in, the longer first where one ends with another."""
_SEPARATORS = re.compile(r"[-_/:\s]+")
_KINDS = re.compile(r"[-_/:.](?:SWAP|PERP|SPOT)$")


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean "…"?)` where a known word is close, else nothing. Of a word that several
    begin with, all of these, up to `MOST`.
    """
    names = sorted(known)
    begun = [name for name in names if word and name.lower().startswith(word.lower())]
    if not (found := begun[:MOST] or get_close_matches(word, names, n=1, cutoff=CLOSE)):
        lower = {name.lower(): name for name in reversed(names)}
        found = [lower[each] for each in get_close_matches(word.lower(), lower, 1, CLOSE)]
    return meant(found)


def meant(names: Sequence[str]) -> str:
    """The question, with one name or several in it; nothing without any."""
    quoted = [f'"{name}"' for name in names]
    return f" (did you mean {' or '.join(quoted)}?)" if quoted else ""


def nearest_symbols(pattern: str, symbols: Collection[str]) -> list[str]:
    """Those of an exchange's symbols that a symbol or pattern which it does not have may mean, the
    likeliest first: the same base, then the same quote. A pattern is answered with patterns:
    `*-USTD` with `*-USDT`.
    """
    base, _, quote = pattern.partition("-")
    quotes: dict[str, list[str]] = {}
    for symbol in symbols:
        one, _, other = symbol.partition("-")
        quotes.setdefault(one, []).append(other)
    if set(pattern) & set("*?"):
        every = {other for others in quotes.values() for other in others if other}
        found = [f"{base}-{other}" for other in _close(quote, every)]
        found += [f"{one}-{quote}" for one in _close(base, quotes)]
        return [each for each in found if each != pattern][:MOST]
    known = list(quotes.get(base, ()))
    found = [f"{base}-{other}" for other in _close(quote, known) or known[:MOST]]
    # 1000SHIB of who writes SHIB, and the other way round.
    akin = [one for one in quotes if len(base) > 2 and base != one and (base in one or one in base)]
    near = _close(base, quotes)
    for one in [*sorted(akin, key=len, reverse=True)[:MOST], *near]:
        if quote in quotes[one]:
            found.append(f"{one}-{quote}" if quote else one)
    if not found:
        found = [f"{one}-{other}" for one in near for other in _close(quote, quotes[one])]
    return list(dict.fromkeys(found))[:MOST]


def _close(word: str, names: Iterable[str]) -> list[str]:
    return get_close_matches(word, sorted(names), n=MOST, cutoff=CLOSE) if word else []


def unknown_words(unknown: Sequence[str], nearest: Mapping[str, Sequence[str]]) -> str:
    """Symbols that an exchange does not have, each with what may be meant; the first few."""
    words = [f"{name}{meant(nearest.get(name, ()))}" for name in unknown[:MOST_NAMED]]
    more = [f"and {len(unknown) - MOST_NAMED} more"] if len(unknown) > MOST_NAMED else []
    return ", ".join(words + more)


def as_symbol(word: str) -> str | None:
    """A market written in another fashion (BTCUSDT, btc/usdt, BTC-USDT-SWAP) as BASE-QUOTE; None
    where that cannot be told.
    """
    text = _KINDS.sub("", word.strip().upper())
    parts = [part for part in _SEPARATORS.split(text) if part]
    if len(parts) == 1:
        # Of XBTUSD the quote is USD, though it ends with TUSD.
        splits = [(text.removesuffix(quote), quote) for quote in _QUOTES if text.endswith(quote)]
        likely = [split for split in splits if len(split[0]) > 2 or "*" in split[0]]
        parts = list(next(iter(likely or splits), ()))
    return "-".join(parts) if len(parts) == 2 and all(parts) else None


def as_currency(word: str) -> str | None:
    """The same of a bare currency (btc, BTC-USD, btc_usd): BTC."""
    pair = as_symbol(word)
    if pair is not None:
        return pair.partition("-")[0]
    text = word.strip().upper()
    return text if text.isalnum() else None
