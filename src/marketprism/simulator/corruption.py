"""An update of a book with one level that is wrong, and nothing that gives it away."""

from typing import Any

import attrs
import msgspec

from .events import Message


def corruptible(message: Message) -> bool:
    """Whether the message is an update that changes a level."""
    update = message.update
    return update is not None and bool(update.bids or update.asks)


def corrupted(message: Message) -> Message:
    """With another quantity at the worst level it tells of, or without its removal."""
    payload: Any = msgspec.json.decode(message.text)
    body = payload["data"][0] if "data" in payload else payload
    sides = [body[name] for name in ("b", "a", "bids", "asks") if body.get(name)]
    # Bids come best first, and so do asks: the last of a side is likely to stay as it is.
    levels = sides[0]
    level = levels[-1]
    if level[1].strip("0."):
        level[1] = f"1{level[1]}"
    else:
        levels.pop()
    return attrs.evolve(message, text=msgspec.json.encode(payload).decode())
