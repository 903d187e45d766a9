"""What was taken from the log and is not acknowledged yet. Pure."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

import attrs

from marketprism.outbox.block import STEP, Block, Numbered
from marketprism.wire import Message


@attrs.define(eq=False)
class InFlight:
    """Blocks in the order in which they were taken.

    Acknowledgements come mostly in that order; what comes before its turn is remembered.
    """

    early: dict[int, Message] = attrs.field(factory=dict)
    """Acknowledged, though something that was taken before is not."""
    lowest: int = 0
    """The first number that is not acknowledged, where there is one."""
    _blocks: deque[Block] = attrs.field(factory=deque)
    _acknowledged: int = 0
    """So many of the first block's messages are."""

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __iter__(self) -> Iterator[Numbered]:
        """What is not acknowledged, in order."""
        for block in self._blocks:
            yield from (each for each in block.numbered() if self._is_open(*each))

    def add(self, block: Block) -> None:
        """This is taken now."""
        if self._blocks and self._blocks[-1].after == block.first:
            self._blocks[-1].messages += block.messages
        else:
            self._blocks.append(block)
            if len(self._blocks) == 1:
                self.lowest = block.first

    def acknowledge(self, number: int) -> Message | None:
        """Forget a message that is safe, and return it; None for one that is not here."""
        if self._blocks and number == self.lowest:
            messages = self._blocks[0].messages
            message = messages[self._acknowledged]
            self._acknowledged += 1
            if self._acknowledged < len(messages) and not self.early:
                self.lowest = number + STEP
            else:
                self._advance()
            return message
        found = None if number in self.early else self._find(number)
        if found is None:
            return None
        block, place = found
        self.early[number] = block.messages[place]
        return block.messages[place]

    def get(self, number: int) -> Message:
        """A message that is here. Raises LookupError for any other."""
        found = self._find(number)
        if found is None:
            raise LookupError(f"{number} is not in flight")
        block, place = found
        return block.messages[place]

    def put(self, number: int, message: Message) -> None:
        """Have this message in the place of one that is here."""
        found = self._find(number)
        assert found is not None
        block, place = found
        block.messages[place] = message

    def rewind(self) -> list[Block]:
        """Give back what is not acknowledged."""
        left = [each for block in self._blocks for each in block.only(self._is_open)]
        self._blocks.clear()
        self._acknowledged = 0
        self.early.clear()
        return left

    def _is_open(self, number: int, _: Message) -> bool:
        return number >= self.lowest and number not in self.early

    def _find(self, number: int) -> tuple[Block, int] | None:
        """The block of a message that is not acknowledged in its turn, and its place there."""
        at = bisect_right(self._blocks, number, key=lambda block: block.first) - 1
        if at < 0 or number < self.lowest:
            return None
        place, odd = divmod(number - self._blocks[at].first, STEP)
        return None if odd or place >= len(self._blocks[at]) else (self._blocks[at], place)

    def _advance(self) -> None:
        """Pass over what is acknowledged."""
        while self._blocks:
            head = self._blocks[0]
            if self._acknowledged == len(head):
                self._blocks.popleft()
                self._acknowledged = 0
                continue
            self.lowest = head.first + STEP * self._acknowledged
            if self.early.pop(self.lowest, None) is None:
                break
            self._acknowledged += 1
