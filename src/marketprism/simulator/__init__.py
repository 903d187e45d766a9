"""The exchanges in a box: their protocols over a seeded market or a recorded capture, on loopback.

    exchange = player("capture.jsonl", speed=10)
    address = await nursery.start(serve, exchange)

An `Exchange` is a skin (one exchange's protocol, a file an exchange) over a source (a market or a
player). What can be made to go wrong stands in `Exchange.faults`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from .binance import BinanceSpot
from .capture import read, read_file
from .capture import record as _record
from .exchange import Exchange
from .faults import Faults
from .market import Market
from .player import DuringCut, Player
from .server import Address, serve
from .skin import Skin
from .source import Live

__all__ = [
    "SKINS", "Address", "Exchange", "Faults", "Market", "market", "player", "record", "serve",
]  # fmt: skip

SKINS: dict[str, Callable[[], Skin]] = {
    "binance_spot": BinanceSpot,
}
"""One line a venue."""


def market(
    venue: str,
    *,
    seed: int = 0,
    symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"),
    trades_per_second: float = 5.0,
    quotes_per_second: float = 40.0,
    ping_interval: float = 20.0,
) -> Exchange:
    """An exchange with a seeded random market; both rates are of each symbol."""
    skin = SKINS[venue]()
    source = Market(
        seed, symbols, trades_per_second=trades_per_second, quotes_per_second=quotes_per_second
    )
    return Exchange(skin, Live(source, skin), ping_interval=ping_interval)


def player(
    capture: Path | str | Sequence[str],
    *,
    venue: str = "binance_spot",
    speed: float = 1.0,
    start_delay: float = 2.0,
    during_cut: DuringCut = "run",
    ping_interval: float = 20.0,
) -> Exchange:
    """An exchange that plays a capture: a file, or its lines. See `Player` for the rest."""
    lines = read_file(Path(capture)) if isinstance(capture, Path | str) else read(capture)
    skin = SKINS[venue]()
    source = Player(lines, skin, speed=speed, start_delay=start_delay, during_cut=during_cut)
    return Exchange(skin, source, ping_interval=ping_interval)


def record(
    live: Market,
    seconds: float,
    *,
    venue: str = "binance_spot",
    snapshot_after: float = 1.0,
    limit: int = 1_000,
) -> list[str]:
    """The lines of a capture of a seeded market; see `marketprism.simulator.capture.record`."""
    return _record(live, seconds, SKINS[venue](), snapshot_after=snapshot_after, limit=limit)
