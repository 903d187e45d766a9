"""What is safe, on the board."""

from collections import Counter
from collections.abc import Iterable

from marketprism.board.board import Board
from marketprism.wire import Message


def count_published(board: Board, messages: Iterable[Message]) -> None:
    """Put messages that are safe on the board."""
    kinds = Counter((message.instrument, message.data_type) for message in messages)
    for (instrument, data_type), number in kinds.items():
        origin = (instrument.exchange, instrument.market_type, str(data_type))
        board.published[origin] += number
        board.sink.acknowledged += number
