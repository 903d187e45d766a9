"""What is made of the configuration: the near end of the channel, the outbox and the sink."""

from collections.abc import Callable, Sequence

from marketprism.board.board import Board
from marketprism.clock import Timestamp
from marketprism.outbox.disk import Worker
from marketprism.outbox.outbox import Outbox
from marketprism.outbox.spool import Spool
from marketprism.pipeline.outlet import Outlet
from marketprism.resume.positions import Positions
from marketprism.settings.settings import ChannelConfig, Config
from marketprism.sinks import Sink
from marketprism.sinks.nats import NatsSink
from marketprism.sinks.stdout import StdoutSink


def outlet_of(config: ChannelConfig, board: Board) -> Outlet:
    """With books that give way, where they may."""
    return Outlet(config.capacity, board, config.conflate_at if config.conflate_books else None)


def outbox_of(
    config: Config,
    board: Board,
    now: Callable[[], Timestamp],
    worker: Worker | None,
    *,
    spooled: bool,
) -> Outbox:
    """With a spool for NATS, if it may be `spooled`; what is only printed is not kept for later."""
    limits, spool = config.outbox, None
    if limits.spool.enabled and config.sink == "nats" and spooled:
        spool = Spool(limits.spool.path, limits.spool.max_bytes, limits.spool.min_free)
    return Outbox(
        limits.max_messages,
        limits.max_bytes,
        board.outbox,
        board=board,
        spool=spool,
        now=now,
        worker=worker,
    )


def sink_of(
    config: Config,
    servers: Sequence[str],
    board: Board,
    positions: Positions | None,
    reader_gone: Callable[[], None],
) -> Sink:
    """The configured one; `reader_gone` is called where nobody reads what is printed."""
    if config.sink == "stdout":
        return StdoutSink(board, reader_gone=reader_gone)
    return NatsSink(config.nats, servers, board, positions)
