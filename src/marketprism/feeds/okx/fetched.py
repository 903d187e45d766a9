"""OKX's books as they are fetched over REST.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-order-book
"""

from typing import Final

from marketprism import decimals
from marketprism.feeds.kept_book import FetchedBook
from marketprism.feeds.okx.chain import published
from marketprism.feeds.okx.messages import (
    UNKNOWN_INSTRUMENT,
    answer_code,
    nanoseconds,
    read_book,
    read_data,
)
from marketprism.instruments import Instrument

BOOKS_WEIGHT: Final = 1


def fetched_book(body: bytes, instrument: Instrument) -> FetchedBook:
    """An answer. Raises ValueError, and what decoding raises."""
    data = read_data(body)
    if len(data) != 1:
        raise ValueError(f"{len(data)} books, where one was asked for")
    said = read_book(data[0])
    bids, asks = decimals.levels(said.bids, said.asks)
    published(instrument, [*bids, *asks])
    return FetchedBook(bids, asks, said.seqId, nanoseconds(said.ts))


def unlisted(body: bytes) -> str | None:
    """In words, that the exchange does not know the instrument; None where it does not say."""
    if answer_code(body) != UNKNOWN_INSTRUMENT:
        return None
    return f"{UNKNOWN_INSTRUMENT}: the exchange does not know this instrument"
