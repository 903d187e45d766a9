"""OKX's checksum of a book ("Order book channel, Checksum")."""

from itertools import chain, zip_longest
from typing import Final
from zlib import crc32

from marketprism.orderbook import OrderBook

LEVELS: Final = 25
_SIGN: Final = 1 << 31


def checksum(book: OrderBook) -> int:
    """The signed CRC32 of the best 25 levels as `bid:size:ask:size:bid…`, in the latest original
    strings; a side that has run out is skipped.
    """
    levels = chain.from_iterable(zip_longest(*book.top_as_said(LEVELS)))
    text = ":".join(f"{level[0]}:{level[1]}" for level in levels if level is not None)
    return ((crc32(text.encode()) + _SIGN) & 0xFFFF_FFFF) - _SIGN
