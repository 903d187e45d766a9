"""Logs: readable on a terminal, JSON lines elsewhere and in the log file; never a secret in them.

What the libraries log through the standard library goes the same way, from WARNING up (or
everything, at DEBUG). Levels are in upper case, times are RFC 3339, UTC.
"""

import logging
import logging.handlers
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from marketprism.redaction import redacted
from marketprism.settings import LogFile, LogLevel

OWN = "marketprism"
"""The logger under which the standard library knows our own events."""


def configure(
    level: LogLevel = "INFO", *, terminal: bool | None = None, file: LogFile | None = None
) -> None:
    """Set logging up for this process; a second call replaces what the first one did.

    `terminal` says whether standard error is one, where that should not be looked up; `file` is
    the log file to keep, if any. A file that cannot be written is one warning, and nothing worse.
    """
    lowest = logging.getLevelNamesMapping()[level]
    readable = sys.stderr.isatty() if terminal is None else terminal
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(_formatter(readable=readable))
    trouble: OSError | None = None
    if file is not None and file.path is not None:
        try:
            handlers.append(_log_file(file.path, file))
        except OSError as error:
            trouble = error

    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
            old.close()
    for handler in handlers:
        root.addHandler(handler)
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
    if trouble is not None and file is not None:
        structlog.get_logger().warning(
            "log.file_unwritable", path=str(file.path), reason=trouble.strerror
        )


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
    colors = sys.stderr.isatty()
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


class _LogFile(logging.handlers.RotatingFileHandler):
    """A rotating file whose failures (a full disk) are told once, not with each event."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the library's name)
        if not self.failed:
            self.failed = True
            reason = getattr(sys.exception(), "strerror", None) or repr(sys.exception())
            structlog.get_logger().warning(
                "log.file_unwritable", path=self.baseFilename, reason=reason
            )


def _log_file(path: Path, settings: LogFile) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(
        path, maxBytes=settings.max_bytes, backupCount=settings.backups, encoding="utf-8"
    )
    handler.setFormatter(_formatter(readable=False))
    return handler
