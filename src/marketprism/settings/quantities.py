"""Single values of the configuration: each function takes what YAML gave and returns it, or says
in a ValueError what it must be. The messages fit behind a key: `nats.ack_timeout: must be …`.
"""

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from marketprism.redaction import Secret

LARGEST = 2**63 - 1  # what a signed 64-bit number holds, here and in NATS
LONGEST = 10 * 365 * 86_400.0  # ten years, in seconds
DEEPEST = 5_000  # levels a side: more than that no exchange tells of a book

_SECONDS: Mapping[str, Decimal | int] = {
    "ms": Decimal("0.001"),
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
}
_BYTES = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1_000**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}iB": 1_024**power for power, letter in enumerate("KMGT", start=1)},
}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([KMGT]i?B|B|)")


def text(value: object) -> str:
    """Text as it stands; YAML's yes, no, null and numbers are not text unless quoted."""
    if not isinstance(value, str):
        raise ValueError("must be text (in quotes, where YAML would read it as something else)")
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def secret(value: object) -> Secret:
    """Text that is never shown."""
    return Secret(text(value))


def stream_name(value: object) -> str:
    """A name JetStream takes, and every file system: letters, digits, - and _."""
    name = text(value)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", name):
        raise ValueError("must be of letters, digits, - and _ only")
    return name


def path(value: object) -> Path:
    """A path, not yet looked at."""
    if "\0" in (name := text(value)):
        raise ValueError("must be a path")
    return Path(name)


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _number(value: object) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def count(value: object) -> int:
    """A whole number of at least 1."""
    number = _number(value)
    if not isinstance(number, int) or not 1 <= number <= LARGEST:
        raise ValueError("must be a whole number, 1 or more")
    return number


def count_or_none(value: object) -> int:
    """A whole number, 0 included."""
    return 0 if type(value) is int and value == 0 else count(value)


def levels(value: object) -> int:
    """How deep a book is shown: a whole number from 1 to `DEEPEST`."""
    number = _number(value)
    if not isinstance(number, int) or not 1 <= number <= DEEPEST:
        raise ValueError(f"must be a whole number from 1 to {DEEPEST}")
    return number


def port(value: object) -> int:
    """A TCP port; 0 lets the system choose one."""
    number = _number(value)
    if not isinstance(number, int) or not 0 <= number <= 65_535:
        raise ValueError("must be a port, from 0 to 65535")
    return number


def share(value: object) -> float:
    """A part of a whole: above 0, at most 1."""
    number = _number(value)
    if number is None or not 0 < number <= 1:
        raise ValueError("must be a share, above 0 and at most 1")
    return float(number)


def duration_or_never(value: object) -> float:
    """Seconds, 0 included, from a number of them or from text such as `500ms`, `10m`, `48h`."""
    number = _number(value)
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        number = float(Decimal(match[1]) * _SECONDS[match[2]])
    if number is None or not 0 <= number <= LONGEST:
        raise ValueError(
            'must be a duration: seconds, or text such as "500ms", "10s", "5m", "48h", "7d"'
            " (not negative, at most ten years)"
        )
    return float(number)


def duration(value: object) -> float:
    """Seconds, more than 0; written as for `duration_or_never`."""
    seconds = duration_or_never(value)
    if seconds == 0:
        raise ValueError("must be longer than 0")
    return seconds


def size(value: object) -> int:
    """Bytes, at least 1, from a number of them or from text such as `1MB` (10⁶), `2GiB` (2³⁰)."""
    number = _number(value)
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        number = math.floor(Decimal(match[1]) * _BYTES[match[2]])
    if not isinstance(number, int) or not 1 <= number <= LARGEST:
        raise ValueError('must be a size: whole bytes, or text such as "512KiB", "1MB", "2GiB"')
    return number


def share_or_size(value: object) -> float:
    """A part of a whole as for `share`, at most 1; or bytes as for `size`, more than 1."""
    number = _number(value)
    if number is not None and (number <= 1 or isinstance(number, float)):
        read: Callable[[object], float] = share
    else:
        read = size
    try:
        return float(read(value))
    except ValueError:
        raise ValueError(
            'must be a share, above 0 and at most 1, or a size such as "700MiB"'
        ) from None


def _address(value: object, schemes: tuple[str, ...], *, root: bool) -> str:
    """A URL of one of these schemes. The value is never repeated: it may hold a password."""
    address = text(value)
    expected = " or ".join(f"{scheme}://" for scheme in schemes)
    if address != "".join(address.split()):
        raise ValueError("must be a URL without spaces")
    try:
        parts = urlsplit(address)
        host, port_given = parts.hostname, parts.port
    except ValueError:
        reason = f"must be a URL starting with {expected}, its port below 65536"
        raise ValueError(reason) from None
    if parts.scheme not in schemes or not address.lower().startswith(f"{parts.scheme}://"):
        raise ValueError(f"must be a URL starting with {expected}")
    if not host or port_given == 0:
        raise ValueError("must be a URL with a host in it, and any port but 0")
    if parts.query or parts.fragment or (root and parts.path not in ("", "/")):
        raise ValueError("must be the root of a URL: scheme, host and port, nothing after them")
    return address.rstrip("/")


def http_url(value: object) -> str:
    """The root of a REST interface, without a final slash."""
    return _address(value, ("https", "http"), root=False)


def websocket_url(value: object) -> str:
    """The root of a websocket interface, without a final slash."""
    return _address(value, ("wss", "ws"), root=False)


def nats_url(value: object) -> str:
    """A NATS server; user, password or token may stand before an @."""
    return _address(value, ("nats", "tls"), root=True)


def proxy_url(value: object) -> str:
    """A proxy for websockets and REST alike, its port named."""
    address = _address(value, ("http", "socks5"), root=True)
    if urlsplit(address).port is None:
        raise ValueError("must name the proxy's port, as in http://proxy.example:3128")
    return address
