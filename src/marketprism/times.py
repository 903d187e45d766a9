"""Times as they are written in messages, and read back."""

import datetime


class Clock:
    """Times as text. Consecutive ones are often the same, and mostly share their second."""

    _latest = (-1, "")
    """A second and its text: one value, for a thread may ask while the event loop does."""
    _whole = (-1, "")
    """The same of a time."""

    def text(self, nanoseconds: int) -> str:
        """RFC 3339 in UTC, to the millisecond, or to the microsecond where there are any."""
        known, text = self._whole
        if nanoseconds != known:
            text = self._made(nanoseconds)
            self._whole = nanoseconds, text
        return text

    def _made(self, nanoseconds: int) -> str:
        second, rest = divmod(nanoseconds, 1_000_000_000)
        known, prefix = self._latest
        if second != known:
            moment = datetime.datetime.fromtimestamp(second, datetime.UTC)
            prefix = moment.strftime("%Y-%m-%dT%H:%M:%S.")
            self._latest = second, prefix
        if rest % 1_000_000 == 0:
            return f"{prefix}{rest // 1_000_000:03d}Z"
        return f"{prefix}{rest // 1_000:06d}Z"


_clock = Clock()


def time_text(nanoseconds: int | None) -> str | None:
    """RFC 3339 in UTC to the millisecond, or to the microsecond where there are any."""
    return None if nanoseconds is None else _clock.text(nanoseconds)


def time_value(text: str | None) -> int | None:
    """The nanoseconds since the epoch of `time_text`'s answer."""
    if text is None:
        return None
    moment = datetime.datetime.fromisoformat(text)
    elapsed = moment - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return (elapsed // datetime.timedelta(microseconds=1)) * 1_000


def milliseconds(nanoseconds: int | None) -> int:
    """As a part of a message id; 0 for no time."""
    return 0 if nanoseconds is None else nanoseconds // 1_000_000
