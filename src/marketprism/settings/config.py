"""The configuration: environment over file over defaults, all problems told at once."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import attrs

from marketprism.errors import ConfigError
from marketprism.records import DataType
from marketprism.redaction import redact
from marketprism.settings import credentials
from marketprism.settings.contradictions import choice_problems, equal_ports
from marketprism.settings.exchanges import Api, Limits, OrderbookOptions, TradeOptions, VenueConfig
from marketprism.settings.nats import EmbeddedConfig, NatsConfig, StreamConfig, TlsConfig
from marketprism.settings.settings import (
    ChannelConfig,
    Config,
    HttpConfig,
    LogConfig,
    LogFile,
    MetricsConfig,
    OutboxConfig,
    ProxyConfig,
    SpoolConfig,
)
from marketprism.settings.sources import (
    DEFAULTS,
    LOGGING,
    MAIN,
    NATS_SERVER,
    VARIABLES,
    Source,
    environment,
    find,
    local_or_packaged,
    venue_sources,
)
from marketprism.settings.structuring import Problem, key_text, structure
from marketprism.settings.supervision import (
    BackoffConfig,
    BreakerConfig,
    FreshnessConfig,
    IntensityConfig,
    SupervisionConfig,
)
from marketprism.settings.venue_sections import venues_to_collect
from marketprism.settings.yaml_files import Tree, merged, read
from marketprism.streams.subscription import Capability

__all__ = [
    "Api",
    "BackoffConfig",
    "BreakerConfig",
    "ChannelConfig",
    "Config",
    "DataType",
    "EmbeddedConfig",
    "FreshnessConfig",
    "HttpConfig",
    "IntensityConfig",
    "Limits",
    "LogConfig",
    "LogFile",
    "MetricsConfig",
    "NatsConfig",
    "OrderbookOptions",
    "OutboxConfig",
    "ProxyConfig",
    "SpoolConfig",
    "StreamConfig",
    "SupervisionConfig",
    "TradeOptions",
    "VenueConfig",
    "load",
]


Section = TypeVar("Section", NatsConfig, TlsConfig, SpoolConfig, LogFile)


def load(
    *,
    path: Path | None,
    environ: Mapping[str, str],
    directory: Path,
    venues: Mapping[str, Mapping[DataType, Capability]],
    only: Collection[str] = (),
    trade_kinds: Mapping[str, Collection[str]] | None = None,
) -> Config:
    """The configuration, or a ConfigError with everything that is wrong with it.

    `venues` are those that exist, with what each offers, and `trade_kinds` which kinds of trades
    each has (None: not judged). `only`, where not empty, are those to collect out of the configured
    ones, enabled or not. Relative paths start at `directory`.
    """
    tree, sources = _said(find(path, environ, directory), environ, directory, venues)
    raw: dict[str, object] = {}
    for source in sources:
        raw = merged(raw, source.tree)

    problems: list[Problem] = []
    named = raw.pop("exchanges")
    exchanges = venues_to_collect(named, venues, only, problems)
    problems += choice_problems(named, tree["exchanges"], venues, trade_kinds)
    problems += [((name,), "unknown key") for name in raw if name == "log_file"]
    config, wrong = structure({k: v for k, v in raw.items() if k != "log_file"}, Config)
    problems += wrong
    known = {key for key, _ in wrong}
    problems += [problem for problem in credentials.exposed(tree) if problem[0] not in known]
    if config is not None:
        problems += equal_ports(config, lambda key: any(source.says(key) for source in sources))
        config = _placed(config, directory)
        if config.sink == "nats":
            problems += [(found.key, found.reason) for found in credentials.problems(config.nats)]
    told = [_worded(problem, sources) for problem in problems]
    log_file = _log_file(directory, told)
    if told or config is None or log_file is None:
        raise ConfigError([redact(line) for line in told])
    return attrs.evolve(config, exchanges=exchanges, log_file=log_file)


def _said(
    file: Path, environ: Mapping[str, str], directory: Path, venues: Collection[str]
) -> tuple[Tree, list[Source]]:
    """What the main file says, and all that says something; a later one wins over an earlier."""
    tree = read(file)
    if "exchanges" not in tree:
        tree = {**tree, "exchanges": read(DEFAULTS / MAIN).get("exchanges")}
    defaults = venue_sources(file, tree, directory, venues)
    return tree, [*defaults, Source("", tree), *environment(environ)]


def _log_file(directory: Path, told: list[str]) -> LogFile | None:
    """Where the log is kept as a file; what is wrong with that is added to what is told."""
    file = local_or_packaged(LOGGING, directory)
    log_file, wrong = structure(read(file), LogFile)
    told += [f"{file}: {key_text(key) or 'file'}: {reason}" for key, reason in wrong]
    if log_file is None or log_file.path is None:
        return log_file
    return attrs.evolve(log_file, path=directory / log_file.path)


def _worded(problem: Problem, sources: list[Source]) -> str:
    """The problem as a line, named for the source which said the value."""
    key, reason = problem
    said = [source.name for source in sources if source.says(key)]
    match said[-1:]:
        case [name] if name in VARIABLES:
            return f"{name}: {reason}"
        case [name] if name:
            return f"{key_text(key)}: {reason} (in {name})"
        case _:
            return f"{key_text(key)}: {reason}" if key else reason


def _placed(config: Config, directory: Path) -> Config:
    """The same with the paths of NATS absolute, and the embedded server's settings found."""
    embedded = config.nats.embedded
    named = embedded.config_file
    embedded = attrs.evolve(
        embedded,
        store_dir=directory / embedded.store_dir,
        config_file=directory / named if named else local_or_packaged(NATS_SERVER, directory),
    )
    nats = config.nats
    secrets = ("password_file", "token_file", "creds_file", "nkey_seed_file")
    nats = attrs.evolve(
        nats,
        embedded=embedded,
        tls=_within(directory, nats.tls, "ca_file", "cert_file", "key_file"),
    )
    spool = _within(directory, config.outbox.spool, "path")
    log_file = _within(directory, config.log_file, "path")
    config = attrs.evolve(
        config, outbox=attrs.evolve(config.outbox, spool=spool), log_file=log_file
    )
    return attrs.evolve(config, nats=_within(directory, nats, *secrets))


def _within(directory: Path, section: Section, *names: str) -> Section:
    """The same with the files that these keys name looked for from a directory on."""
    found = {name: getattr(section, name) for name in names}
    placed = {name: directory / path for name, path in found.items() if path is not None}
    return attrs.evolve(section, **placed)
