"""Logs: readable on a terminal, JSON lines elsewhere and in the log file; never a secret in them.

What the libraries log through the standard library goes the same way, from WARNING up (or
everything, at DEBUG). Levels are in upper case, times are RFC 3339, UTC.

Whoever logs never waits: the lines are made at once, and written by threads (`background_writer`).
"""

import logging
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from marketprism.observe.background_writer import (
    BackgroundText,
    BackgroundWriter,
    Descriptor,
    Destination,
)
from marketprism.observe.log_file import RotatingFile
from marketprism.redaction import redact, redacted
from marketprism.settings.settings import LogFile, LogLevel

OWN = "marketprism"
"""The logger under which the standard library knows our own events."""


FLUSH_WITHIN = 2.0
"""Seconds for what waits to be written, at the end."""
_OPEN_WITHIN = 1.0
"""Seconds that the start waits to know whether there is a log file."""

_writers: dict[str, BackgroundWriter] = {}
"""By where they write: `stderr`, `file`."""


def configure(
    level: LogLevel = "INFO", *, terminal: bool | None = None, file: LogFile | None = None
) -> None:
    """Set logging up for this process; a second call replaces what the first one did.

    `terminal` says whether standard error is one, where that should not be looked up; `file` is
    the log file to keep, if any. A file that cannot be written is one warning, and nothing worse.
    """
    close()
    lowest = logging.getLevelNamesMapping()[level]
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _Background):
            root.removeHandler(old)
    if sys.stderr is not None:
        readable = sys.stderr.isatty() if terminal is None else terminal
        writer = _writer("stderr", partial(Descriptor, sys.stderr))
        root.addHandler(_Background(writer, _formatter(readable=readable)))
    if file is not None and file.path is not None:
        writer = _writer("file", partial(RotatingFile, file.path, file), path=str(file.path))
        root.addHandler(_Background(writer, _formatter(readable=False)))
    root.setLevel(lowest if lowest <= logging.DEBUG else max(lowest, logging.WARNING))
    logging.getLogger(OWN).setLevel(lowest)
    structlog.configure(
        processors=[
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=_own_logger,
        cache_logger_on_first_use=False,
    )
    for writer in _writers.values():
        writer.start()
    for writer in _writers.values():
        writer.opened(_OPEN_WITHIN)


def stand_in() -> None:
    """Have what is printed on standard error go the same way, by whomever: warnings, tracebacks."""
    if "stderr" in _writers and not isinstance(sys.stderr, BackgroundText):
        sys.stderr = BackgroundText(_writers["stderr"], sys.stderr, breaks=False)


def last_words(error: BaseException) -> None:
    """Why the process fails, which nobody expected."""
    if _writers:
        structlog.get_logger().critical("process.failed", exc_info=error)
    else:
        print(redact("".join(traceback.format_exception(error))), file=sys.stderr)


def flush(within: float = FLUSH_WITHIN) -> None:
    """Return when all is written, or after so many seconds."""
    until = time.monotonic() + within
    # Twice, for what one of them says of its failure goes by the other.
    for writer in (*_writers.values(), *_writers.values()):
        writer.flush(max(0.0, until - time.monotonic()))


def close(within: float = FLUSH_WITHIN) -> None:
    """Have written what waits, as far as that is possible in so many seconds; then no more."""
    until = time.monotonic() + within
    for writer in _writers.values():
        writer.close(max(0.0, until - time.monotonic()))
    _writers.clear()


def lost_lines() -> dict[str, int]:
    """How many could not be written, or did not fit, by where they should have gone."""
    return {where: writer.lost for where, writer in _writers.items()}


def _own_logger(*_names: object) -> logging.Logger:
    return logging.getLogger(OWN)


def _shared() -> list[Processor]:
    """What every event goes through, ours and the libraries'."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _upper_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _renderer(*, readable: bool) -> Processor:
    if not readable:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    colors = sys.stderr is not None and sys.stderr.isatty()
    styles = structlog.dev.ConsoleRenderer.get_default_level_styles(colors)
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        exception_formatter=structlog.dev.plain_traceback,
        level_styles={name.upper(): style for name, style in styles.items()},
    )


def _formatter(*, readable: bool) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_name_library, structlog.stdlib.ExtraAdder(), *_shared()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            # A traceback becomes text here, so that what follows sees the secrets in it.
            structlog.processors.format_exc_info,
            _redact,
            _ordered,
            _renderer(readable=readable),
        ],
    )


def _name_library(_logger: object, _method: str, event: EventDict) -> EventDict:
    event["library"] = event["_record"].name
    return event


def _upper_level(_logger: object, _method: str, event: EventDict) -> EventDict:
    event["level"] = str(event["level"]).upper()
    return event


def _redact(_logger: object, _method: str, event: EventDict) -> MutableMapping[str, Any]:
    clean = redacted(event)
    assert isinstance(clean, dict)
    return clean


def _ordered(_logger: object, _method: str, event: EventDict) -> EventDict:
    """What every line has comes first, so that lines can be read below each other."""
    first = {key: event[key] for key in ("event", "level", "timestamp") if key in event}
    return first | {key: value for key, value in event.items() if key not in first}


class _Background(logging.Handler):
    """Makes the lines, and leaves it to a writer to write them."""

    def __init__(self, writer: BackgroundWriter, formatter: logging.Formatter) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # whatever is logged must not fail who logs it
            line = redact(traceback.format_exc())
        self._writer.put(f"{line}\n".encode(errors="replace"))


def _writer(where: str, make: Callable[[], Destination], **known: object) -> BackgroundWriter:
    def failed(error: OSError) -> None:
        reason = error.strerror or repr(error)
        structlog.get_logger().warning(f"log.{where}_unwritable", **known, reason=reason)

    def recovered(lost: int) -> None:
        structlog.get_logger().warning("log.lines_lost", where=where, lines=lost)

    _writers[where] = BackgroundWriter(make, failed, recovered)
    return _writers[where]
