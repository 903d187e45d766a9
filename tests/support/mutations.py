"""Ways in which a frame may be spoilt: bytes, values, types, keys."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

Mutation = Callable[[bytes], bytes]
Path = tuple[str | int, ...]

TIMES = [
    # Milliseconds: the last one that is believed, and one past it; and funding times just below.
    *(4_102_444_800_000 - 28_800_000, 4_102_444_800_000 - 3_600_000, 4_102_444_800_000 - 1),
    *(4_102_444_800_000, 4_102_444_800_001),
    # A usual "no date"; the year 10000; the same in micro- and nanoseconds.
    *(253_402_300_799_999, 253_402_300_800_000, 253_402_300_799_999_000, 253_402_300_799 * 10**9),
    *(1_700_000_000, 1_700_000_000_000_000, 1_700_000_000_000_000_000),
]
IDS = [-1, 0, 1, 2**53, 2**63 - 2, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1, 2**64, 10**400]
LIMITS = [*TIMES, *IDS, -(2**63), -(2**63) - 1]
"""Whole numbers at every limit."""
NUMBERS = [
    *("NaN", "Infinity", "-Infinity", "-1", "1e9", "1E-8", "1e99", "1e100", "1e999999999", "1_000"),
    *("٠", "١٢٣", "9" * 64, "9" * 65, "9" * 5000, "0." + "0" * 63 + "1", "0." + "0" * 64 + "1"),
    *("007.50", "00", "0", "-0", ".5", "5.", "1.5", 1e308, 1e-308, 1.5, -1.5),
]
OTHERS: list[Any] = [None, True, False, "", "\x00", "é", "\n", "x", [], {}, [[]], [None], {"a": {}}]


def mutated(frame: bytes, dice: random.Random) -> bytes:
    """Bytes changed, cut, doubled or put in; or something in its JSON exchanged."""
    at, end = sorted((dice.randrange(len(frame) + 1), dice.randrange(len(frame) + 1)))
    match dice.randrange(12):
        case 0:
            return frame[:at]
        case 1:
            return frame[:at] + dice.randbytes(dice.randrange(1, 5)) + frame[at:]
        case 2:
            return frame[:at] + dice.randbytes(1) + frame[at + 1 :]
        case 3:
            return frame[:at] + frame[end:]
        case 4:
            return frame[:end] + frame[at:]
        case 5:
            return frame[:at] + b"[" * dice.choice((1, 10, 50_000)) + frame[at:]
        case _:
            return exchanged(frame, dice)


def exchanged(frame: bytes, dice: random.Random) -> bytes:
    """The same JSON with one value or key exchanged, anywhere within; or with a key doubled."""
    tree = json.loads(frame)
    path = dice.choice(list(paths(tree)))
    old = at(tree, path)
    new: Any
    match dice.randrange(10):
        case 0 | 1 | 2:
            number = dice.choice(LIMITS)
            new = str(number) if isinstance(old, str) == (dice.random() < 0.8) else number
        case 3 | 4:
            new = dice.choice(NUMBERS)
        case 5:
            new = dice.choice(OTHERS)
        case 6 | 7:
            new = swapped(old, dice)
        case 8:
            return written(tree, path, old, rename=True)
        case _:
            doubles = [*LIMITS, *NUMBERS, *OTHERS, old]
            return written(tree, path, old, double=dice.choice(doubles), last=dice.random() < 0.5)
    return written(tree, path, new)


def swapped(value: Any, dice: random.Random) -> Any:
    """The same as another type."""
    if isinstance(value, str):
        try:
            number = json.loads(value)
        except ValueError:
            number = len(value)
        return dice.choice([number, [value], {"value": value}, value.encode().hex()])
    if isinstance(value, dict):
        return dice.choice([list(value.values()), list(value.items()), json.dumps(value)])
    if isinstance(value, list):
        return dice.choice([dict(enumerate(value)), json.dumps(value), value[:1], value * 2])
    return dice.choice([json.dumps(value), [value], {"value": value}, not value])


def paths(tree: Any, here: Path = ()) -> Iterator[Path]:
    """Where something stands: the whole, and all that is in it."""
    yield here
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from paths(value, (*here, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from paths(value, (*here, index))


def at(tree: Any, path: Path) -> Any:
    """What stands there."""
    for key in path:
        tree = tree[key]
    return tree


_NOTHING = object()


def written(
    tree: Any,
    path: Path,
    new: Any,
    *,
    rename: bool = False,
    double: Any = _NOTHING,
    last: bool = True,
) -> bytes:
    """JSON of `tree` with `new` at a path; its key renamed; its key there twice, with `double` as
    the `last` or the first of the two.
    """
    return _written(tree, path, json.dumps(new), rename, double, last).encode()


def _written(tree: Any, path: Path, new: str, rename: bool, double: Any, last: bool) -> str:
    if not path:
        return new
    (key, *rest), parts = path, []
    members = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for name, value in members:
        text = json.dumps(value)
        if name == key:
            text = _written(value, tuple(rest), new, rename, double, last)
        label = ""
        if isinstance(tree, dict):
            renamed = rename and name == key and not rest
            label = json.dumps(f"{name}x" if renamed else name) + ":"
        part = [label + text]
        if name == key and not rest and double is not _NOTHING:
            part.insert(len(part) if last else 0, label + json.dumps(double))
        parts += part
    return f"{{{','.join(parts)}}}" if isinstance(tree, dict) else f"[{','.join(parts)}]"


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """Cut it off, change a byte, put something in, say a part twice; or exchange a part of its
    JSON.
    """
    kind = draw(st.integers(0, 7))
    where, value = draw(st.integers(0, 10_000)), draw(st.binary(min_size=1, max_size=4))
    seed = draw(st.integers(0, 2**32))

    def mutate(frame: bytes) -> bytes:
        place = where % (len(frame) + 1)
        match kind:
            case 0:
                return frame[:place]
            case 1:
                return frame[:place] + value + frame[place + len(value) :]
            case 2:
                return frame[:place] + value + frame[place:]
            case 3:
                return frame[:place] + frame[place // 2 :]
            case _:
                return exchanged(frame, random.Random(seed))

    return mutate
