"""The configuration: environment over file over defaults, all problems told at once."""

import re
from collections.abc import Collection, Iterator, Mapping
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
from marketprism.settings.nearest_names import as_currency, as_symbol, meant, suggestion
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
    _LOGGING,
    _MAIN,
    _NATS_SERVER,
    _VARIABLES,
    DEFAULTS,
    _environment,
    _local_or_packaged,
    _Source,
    _venue_sources,
    find,
)
from marketprism.settings.structuring import Key, Problem, key_text, structure
from marketprism.settings.supervision import (
    BackoffConfig,
    BreakerConfig,
    FreshnessConfig,
    IntensityConfig,
    SupervisionConfig,
)
from marketprism.settings.yaml_files import merged, read
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

_SYMBOL = re.compile(r"\*|[^\s-]+-[^\s-]+")
_CURRENCY = re.compile(r"[^\s-]+")


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
    file = find(path, environ, directory)
    tree = read(file)
    if "exchanges" not in tree:
        tree = {**tree, "exchanges": read(DEFAULTS / _MAIN).get("exchanges")}
    sources = [
        *_venue_sources(file, tree, directory, venues),
        _Source("", tree),
        *_environment(environ),
    ]
    raw: dict[str, object] = {}
    for source in sources:
        raw = merged(raw, source.tree)

    problems: list[Problem] = []
    named = raw.pop("exchanges")
    exchanges = _exchanges(named, venues, only, problems)
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

    logging = _local_or_packaged(_LOGGING, directory)
    log_file, wrong = structure(read(logging), LogFile)
    told += [f"{logging}: {key_text(key) or 'file'}: {reason}" for key, reason in wrong]
    if told or config is None or log_file is None:
        raise ConfigError([redact(line) for line in told])
    if log_file.path is not None:
        log_file = attrs.evolve(log_file, path=directory / log_file.path)
    return attrs.evolve(config, exchanges=exchanges, log_file=log_file)


def _exchanges(
    raw: object,
    venues: Mapping[str, Mapping[DataType, Capability]],
    only: Collection[str],
    problems: list[Problem],
) -> dict[str, VenueConfig]:
    """The venues to collect; what is wrong with any of them is added to the problems."""
    if not isinstance(raw, Mapping) or not raw:
        names = raw if isinstance(raw, list) else [raw]
        first = next((name for name in names if isinstance(name, str) and name in venues), None)
        example = f"{first or next(iter(venues))}: {{symbols: [{_example(venues, first)}]}}"
        reason = "must be a section of keys, one a venue" if raw else "must name at least one venue"
        problems.append((("exchanges",), f"{reason}, as in {{{example}}}"))
        return {}
    collected = {}
    for name, section in raw.items():
        at = ("exchanges", name)
        if name not in venues:
            problems.append((at, _unknown_venue(name, venues)))
            continue
        if section is not None and not isinstance(section, Mapping):
            example = f"{{symbols: [{_example(venues, name)}]}}"
            problems.append((at, f"must be a section of keys, as in {example}"))
            continue
        keys = {"data_types": _in_order(venues[name]), **(section or {})}
        if "name" in keys:
            problems.append(((*at, "name"), "unknown key"))
        venue, wrong = structure({**keys, "name": name}, VenueConfig, at)
        problems += wrong
        if venue is None:
            # What is right of it is judged all the same, so that everything is told at once.
            bad = {key[len(at)] for key, _ in wrong if len(key) > len(at)}
            rest = {key: value for key, value in keys.items() if key not in bad}
            rest.setdefault("data_types", _in_order(venues[name]))
            partial, _ = structure({**rest, "name": name}, VenueConfig, at)
            if partial is not None:
                problems += _venue_problems(partial, venues[name], at)
        else:
            problems += _venue_problems(venue, venues[name], at)
            if name in only or (venue.enabled and not only):
                collected[name] = venue
    for name in only:
        if name not in venues:
            problems.append(((f"--exchange {name}",), _unknown_venue(name, venues)))
        elif name not in raw:
            there = ", ".join(map(str, raw))
            problems.append(((f"--exchange {name}",), f"not configured (exchanges names {there})"))
    if not collected and not problems:
        problems.append((("exchanges",), "none of them is enabled"))
    return collected


def _in_order(offers: Collection[DataType]) -> list[DataType]:
    return [data_type for data_type in DataType if data_type in offers]


def _venue_problems(
    venue: VenueConfig, offers: Mapping[DataType, Capability], at: Key
) -> Iterator[Problem]:
    if not venue.symbols:
        yield (*at, "symbols"), "must name at least one"
    if not venue.data_types:
        yield (*at, "data_types"), "must name at least one"
    for number, data_type in enumerate(venue.data_types):
        if data_type not in offers:
            offered = ", ".join(_in_order(offers))
            reason = f"{data_type} is not offered by this venue (it offers {offered})"
            yield (*at, "data_types", number), reason
    bare = _bare(offers)
    shape, example = (_CURRENCY, "BTC") if bare else (_SYMBOL, "BTC-USDT or *-USDT")
    for number, symbol in enumerate(venue.symbols):
        if not shape.fullmatch(symbol) or symbol != symbol.upper():
            guess = as_currency(symbol) if bare else as_symbol(symbol)
            hint = meant([guess] if guess is not None and shape.fullmatch(guess) else [])
            yield (*at, "symbols", number), f"must look like {example}, in upper case{hint}"


def _bare(offers: Mapping[DataType, Capability]) -> bool:
    """Whether its symbols are currencies and not pairs."""
    return all(has.by_currency for has in offers.values())


def _example(venues: Mapping[str, Mapping[DataType, Capability]], name: str | None) -> str:
    """A symbol as that venue, or the first, has them."""
    return "BTC" if _bare(venues[name or next(iter(venues))]) else "BTC-USDT"


def _unknown_venue(name: object, venues: Collection[str]) -> str:
    hint = suggestion(str(name), venues) or f" (there is {', '.join(venues)})"
    return f"unknown venue{hint}"


def _worded(problem: Problem, sources: list[_Source]) -> str:
    """The problem as a line, named for the source which said the value."""
    key, reason = problem
    said = [source.name for source in sources if source.says(key)]
    match said[-1:]:
        case [name] if name in _VARIABLES:
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
        config_file=directory / named if named else _local_or_packaged(_NATS_SERVER, directory),
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
