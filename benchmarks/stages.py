"""What single steps cost in this process: a frame to its record, a record to its message.

    python benchmarks/stages.py

One core, no socket. Each figure is the best of several rounds: noise only adds.
"""

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from functools import partial

import frames

from marketprism.clock import Timestamp
from marketprism.feeds.actions import Fetch, Fetched, Send
from marketprism.feeds.binance.spot import BinanceSpot
from marketprism.feeds.venue import Session
from marketprism.instruments import Instrument
from marketprism.records import DataType, Record
from marketprism.settings.exchanges import Api, TradeOptions, VenueConfig
from marketprism.streams.subscription import Subscription
from marketprism.wire import encode

BATCH = 32
"""Frames that one read of the socket brings."""
FEW = 100
"""Records that are encoded again and again."""


def session(data_type: DataType, symbols: int = 1) -> Session:
    """One connection of Binance spot, confirmed, its books in step at id 1000."""
    venue = BinanceSpot(
        VenueConfig(
            "binance_spot",
            Api("http://rest.test", "ws://stream.test"),
            ("*",),
            (data_type,),
            trade=TradeOptions("aggregated"),
        )
    )
    names = [frames.symbol(place).decode() for place in range(symbols)]
    (shard,) = venue.plan(
        [
            Subscription(data_type, Instrument("binance", "spot", f"{name[:-4]}-USDT", name))
            for name in names
        ]
    )
    made = shard.open({})
    output = made.opening(now(0))
    for action in output.actions:
        command = action.before if isinstance(action, Fetch) else action
        if isinstance(command, Send):
            made.sent(command.number, now(0))
            made.receive([b'{"result":null,"id":%d}' % command.number], now(0))
    for action in output.actions:
        if isinstance(action, Fetch):
            made.reply(action.tag, Fetched(frames.snapshot(), 1_000_001_000), now(1))
    return made


def now(turn: int) -> Timestamp:
    """The time, a microsecond a turn."""
    return Timestamp(frames.BASE * 1_000_000 + turn * 1000, 1_000_000_000 + turn * 1000)


def best(run: Callable[[], int], rounds: int = 7) -> float:
    """Microseconds of CPU an item, in the best of so many rounds; `run` says how many items."""
    taken = []
    for _ in range(rounds):
        gc.collect()
        started = time.process_time_ns()
        items = run()
        taken.append((time.process_time_ns() - started) / items / 1000)
    return min(taken)


def receive(ready: list[Session], told: Sequence[bytes]) -> int:
    """Let the next session have these frames, in batches; nothing of it is kept."""
    made, records = ready.pop(), 0
    for turn, at in enumerate(range(0, len(told), BATCH)):
        records += len(made.receive(told[at : at + BATCH], now(turn)).records)
    assert records == len(told), f"{records} records of {len(told)} frames"
    return records


def write(records: Sequence[Record], times: int) -> int:
    """Encode these again and again."""
    for _ in range(times):
        for record in records:
            encode(record)
    return times * len(records)


def figures(count: int, rounds: int = 7) -> dict[str, float]:
    """Microseconds a message, by stage."""
    told: dict[str, float] = {}
    for name, data_type, made in (
        ("trade", DataType.TRADE, frames.trades),
        ("depth update of 50 levels", DataType.ORDERBOOK, frames.updates),
    ):
        lines = made(count)
        records = session(data_type).receive(lines[:FEW], now(0)).records
        ready = [session(data_type) for _ in range(rounds)]
        told[f"{name}: frame to record"] = best(partial(receive, ready, lines), rounds)
        told[f"{name}: record to message"] = best(partial(write, records, count // FEW), rounds)
    return told


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="messages of each kind")
    arguments = parser.parse_args()
    for name, microseconds in figures(arguments.count).items():
        print(f"{name:45} {microseconds:7.2f} µs")


if __name__ == "__main__":
    main()
