"""A client's book of OKX, kept plainly: what the tests compare the simulator with."""

from decimal import Decimal
from itertools import zip_longest
from typing import Any
from zlib import crc32


class ClientBook:
    """One instrument's, from its messages; each is checked as it comes."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, tuple[str, str]]] = {"bids": {}, "asks": {}}
        self.last_id: int | None = None
        self.checked = 0
        """How many messages had a checksum, which was right."""

    def take(self, message: dict[str, Any]) -> None:
        """A snapshot or an update, which must follow."""
        (data,) = message["data"]
        if message["action"] == "snapshot":
            assert data["prevSeqId"] == -1
            self.sides = {"bids": {}, "asks": {}}
        else:
            assert data["prevSeqId"] == self.last_id
        self.last_id = data["seqId"]
        for name, side in self.sides.items():
            for price, size, zero, _orders in data[name]:
                assert zero == "0"
                if Decimal(size):
                    side[Decimal(price)] = (price, size)
                else:
                    side.pop(Decimal(price), None)
        if data["checksum"]:
            assert self.checksum() == data["checksum"]
            self.checked += 1

    def best(self, name: str) -> list[tuple[str, str]]:
        """A side, best level first."""
        side = self.sides[name]
        return [side[price] for price in sorted(side, reverse=name == "bids")]

    def checksum(self) -> int:
        """As OKX documents it."""
        pairs = zip_longest(self.best("bids")[:25], self.best("asks")[:25])
        words = [word for pair in pairs for level in pair if level for word in level]
        value = crc32(":".join(words).encode())
        return value - 2**32 if value >= 2**31 else value
