"""Secrets kept out of whatever is shown: logs, tracebacks, problems, pages, `repr`."""

import re
from collections.abc import Mapping

import attrs

HIDDEN = "***"

# Everything before the last @ of an authority. An @ further on is not a secret: btcusdt@trade.
_USER = re.compile(r"(?<=://)[^/?#\s]*@")

_NAMES = (
    r"(?:access|api|auth|listen|private|secret|session|refresh)?[_-]?"
    r"(?:key|pass|passwd|password|passphrase|secret|sign|signature|token)"
)
_PARAMETER = re.compile(rf"(?i)(?<=[?&])({_NAMES})=[^&#\s\"']*")
_HEADER = re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?)(?:(?:basic|bearer)\s+)?[^\s\"',]+")
_NAME = re.compile(
    r"(?i)(?:\w+[_-])?(?:password|passwd|passphrase|secret|token|api[_-]?key|authorization)"
)


@attrs.frozen(repr=False, str=False)
class Secret:
    """A password or token: only who asks for its text gets it."""

    text: str

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__


def redact(text: str) -> str:
    """The same text, with passwords and tokens of any URL or header in it hidden."""
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _PARAMETER.sub(rf"\1={HIDDEN}", text)
    return _HEADER.sub(rf"\1{HIDDEN}", text)


def redacted(value: object) -> object:
    """The same value as plain data without secrets, however deep they lie.

    What is neither text, number nor container becomes its text: nothing can show more later.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {
            redact(str(key)): HIDDEN if _NAME.fullmatch(str(key)) else redacted(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(item) for item in value]
    return redact(str(value))
