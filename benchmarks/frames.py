"""Frames as Binance sends them, made before anything is timed: trades of about 180 bytes, and
updates of fifty levels of a book, of about 1,200.
"""

import random

BASE = 1_767_225_600_000
"""2026-01-01, milliseconds."""


def trades(count: int, symbols: int = 1, first: int = 1) -> list[bytes]:
    """Aggregate trades that count by ones, a millisecond apart, the symbols in turn."""
    chance = random.Random(1)
    frames = []
    for number in range(count):
        at = first + number // symbols
        price = 58_000_00 + chance.randrange(-500_00, 500_00)
        name = symbol(number % symbols)
        frames.append(
            b'{"e":"aggTrade","E":%d,"a":%d,"s":"%b","p":"%d.%02d","q":"0.%08d","nq":"0.00000000",'
            b'"f":%d,"l":%d,"T":%d,"m":%b,"M":true}'
            % (
                BASE + number,
                at,
                name,
                price // 100,
                price % 100,
                chance.randrange(1, 10**8),
                at,
                at,
                BASE + number - 1,
                b"true" if chance.random() < 0.5 else b"false",
            )
        )
    return frames


def updates(count: int, levels: int = 50, symbols: int = 1, first: int = 1001) -> list[bytes]:
    """Updates of `levels` levels, half of them bids, each of ten ids, the symbols in turn; one
    level in eight goes.
    """
    chance = random.Random(2)
    frames = []
    for number in range(count):
        at = first + 10 * (number // symbols)
        sides = [
            b",".join(_level(chance, low, high) for _ in range(levels // 2))
            for low, high in ((57_990_00, 58_000_00), (58_000_01, 58_010_00))
        ]
        frames.append(
            b'{"e":"depthUpdate","E":%d,"s":"%b","U":%d,"u":%d,"b":[%b],"a":[%b]}'
            % (BASE + number, symbol(number % symbols), at, at + 9, *sides)
        )
    return frames


def snapshot(last_id: int = 1000, levels: int = 1000) -> bytes:
    """The answer of `GET /api/v3/depth`."""
    chance = random.Random(3)
    bids = [_at(chance, 58_000_00 - 50 * place) for place in range(levels)]
    asks = [_at(chance, 58_000_01 + 50 * place) for place in range(levels)]
    return b'{"lastUpdateId":%d,"bids":[%b],"asks":[%b]}' % (
        last_id,
        b",".join(bids),
        b",".join(asks),
    )


def symbol(place: int) -> bytes:
    """`BTCUSDT`, then others as long."""
    return b"BTCUSDT" if place == 0 else b"C%02dUSDT" % place


def _level(chance: random.Random, low: int, high: int) -> bytes:
    price = chance.randrange(low, high)
    if chance.random() < 0.125:
        return b'["%d.%02d","0.00000"]' % divmod(price, 100)
    return b'["%d.%02d","%d.%05d"]' % (*divmod(price, 100), 0, chance.randrange(1, 10**5))


def _at(chance: random.Random, price: int) -> bytes:
    return b'["%d.%02d","1.%05d"]' % (*divmod(price, 100), chance.randrange(10**5))
