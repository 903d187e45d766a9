"""What the tests of the sinks and of the outbox share; their fixtures."""

from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from patience import PATIENCE
from ports import free_port

from marketprism.board.board import Board
from marketprism.errors import Refused, SinkLost
from marketprism.instruments import Instrument
from marketprism.settings.nats import NatsConfig
from marketprism.sinks import Outbox, Sink
from marketprism.wire import Message

INSTRUMENT = Instrument("binance", "spot", "BTC-USDT", "BTCUSDT")


def message(number: int, *, size: int = 300, data_type: str = "trade") -> Message:
    """A message like a trade, whose payload begins with its number."""
    return Message(
        "trade-data.binance.spot.BTC-USDT",
        f"trade:binance:spot:BTC-USDT:raw:{number}",
        b"%d " % number + b"x" * size,
        INSTRUMENT,
        data_type,
    )


@attrs.define
class Delivery:
    """An outbox, a board, and a sink that is started again whenever it fails."""

    config: NatsConfig = attrs.field(factory=NatsConfig)
    board: Board = attrs.field(factory=Board)
    outbox: Outbox = attrs.field(init=False)
    failures: list[SinkLost | Refused] = attrs.field(factory=list)
    failed_at: list[float] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(100_000, 2**30, self.board.outbox)

    async def keep_running(self, sink: Sink) -> None:
        while True:
            try:
                return await sink.run(self.outbox)
            except (SinkLost, Refused) as failure:
                self.failures.append(failure)
                self.failed_at.append(trio.current_time())
            await trio.sleep(0.05)


@pytest.fixture
def delivery() -> Delivery:
    """See `Delivery`."""
    return Delivery()


@pytest.fixture
def make_message() -> Callable[..., Message]:
    """See `message`."""
    return message


@pytest.fixture
def unused_port() -> Callable[[], int]:
    """See `free_port`."""
    return free_port


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Waits for something that nobody announces."""

    async def waiting(condition: Callable[[], object], limit: float = PATIENCE) -> None:
        with trio.fail_after(limit):
            while not condition():  # noqa: ASYNC110 (there is no event)
                await trio.sleep(0.01)

    return waiting
