"""The exchanges in a box: their protocols over a seeded market or a recorded capture, on loopback.

    exchange = player("capture.jsonl", speed=10)
    address = await nursery.start(serve, exchange)

An `Exchange` is a skin (one exchange's protocol, a file an exchange) over a source (a market or a
player). What can be made to go wrong stands in `Exchange.faults`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from .binance import BinanceSpot
from .binance_derivatives import BinanceDerivatives
from .capture import read, read_file
from .deribit import DeribitDerivatives
from .exchange import Exchange
from .faults import Faults
from .market import Market
from .okx import OkxDerivatives, OkxSpot
from .okx_instruments import read_rows
from .player import DuringCut, Player
from .recorder import record as _record
from .server import Address, serve
from .skin import Options, Rates, Skin

__all__ = [
    "SKINS", "Address", "Exchange", "Faults", "Market", "market", "player", "record", "serve",
]  # fmt: skip

SKINS: dict[str, Callable[[Options], Skin]] = {
    "binance_spot": BinanceSpot,
    "binance_derivatives": BinanceDerivatives,
    "okx_spot": OkxSpot,
    "okx_derivatives": OkxDerivatives,
    "deribit_derivatives": DeribitDerivatives,
}
"""One line a venue."""


def market(
    venue: str,
    *,
    seed: int = 0,
    symbols: Sequence[str] | None = None,
    trades_per_second: float = 5.0,
    quotes_per_second: float = 40.0,
    checksums: bool = False,
    keep_alive: float = 60.0,
    ping_interval: float | None = None,
) -> Exchange:
    """An exchange with a seeded random market; both rates are of each symbol.

    Without `symbols` it lists Bitcoin and Ether, in its own names. `checksums` and `keep_alive` are
    OKX's: see `Options`. With `ping_interval` it pings so often, in seconds, else at its own pace.
    """
    skin = SKINS[venue](Options(seed, checksums, keep_alive))
    source = skin.live(symbols or skin.listed, Rates(trades_per_second, quotes_per_second))
    return Exchange(skin, source, ping_interval=ping_interval)


def player(
    capture: Path | str | Sequence[str],
    *,
    venue: str = "binance_spot",
    speed: float = 1.0,
    start_delay: float = 2.0,
    during_cut: DuringCut = "run",
    instruments: Path | str | None = None,
    ping_interval: float | None = None,
) -> Exchange:
    """An exchange that plays a capture: a file, or its lines. See `Player` for the rest.

    `instruments` is a recording of OKX's instruments; without it they are made up. What else a
    capture lacks and a collector asks for over REST (open interest, ratios) is made up, too.
    """
    lines = read_file(Path(capture)) if isinstance(capture, Path | str) else read(capture)
    rows = {} if instruments is None else read_rows(Path(instruments))
    skin = SKINS[venue](Options(checksums=True, instruments=rows))
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
    """The lines of a capture of a seeded market; see `marketprism.simulator.recorder.record`."""
    skin = SKINS[venue](Options())
    return _record(live, seconds, skin, snapshot_after=snapshot_after, limit=limit)
