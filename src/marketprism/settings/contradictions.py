"""What no single key of a configuration says, but several together: options of what is not
collected, kinds of trades that a venue does not have, one port for two servers. Pure.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import combinations
from typing import Final

from marketprism.records import DataType
from marketprism.settings.settings import Config
from marketprism.settings.structuring import Key, Problem, key_text

_OPTIONS: Final = (DataType.ORDERBOOK, DataType.TRADE)
"""Data types whose options are a section of a venue; its key is their name."""
_EVERYWHERE: Final = {"0.0.0.0", "::"}
"""Hosts that are all addresses of the machine."""


def choice_problems(
    merged: object,
    main: object,
    venues: Mapping[str, Collection[DataType]],
    trade_kinds: Mapping[str, Collection[str]] | None,
) -> Iterator[Problem]:
    """Options that would have no effect. `merged` is the section `exchanges` of all sources, `main`
    that of the main file: defaults of a venue may well say more than is collected.
    """
    if not isinstance(merged, Mapping):
        return
    for name, section in merged.items():
        if name not in venues or not isinstance(section, Mapping):
            continue
        at: Key = ("exchanges", name)
        said = main.get(name) if isinstance(main, Mapping) else None
        said = said if isinstance(said, Mapping) else {}
        if trade_kinds is not None:
            yield from _kind_problem(section.get("trade"), trade_kinds[name], at)
        types = section.get("data_types", venues[name])
        if not isinstance(types, Collection) or not set(map(str, types)) <= set(venues[name]):
            continue  # which has a line of its own
        for data_type in _OPTIONS:
            if not said.get(data_type):
                continue
            if data_type not in venues[name]:
                yield (*at, str(data_type)), f"{data_type} is not offered by this venue"
            elif data_type not in types:
                reason = f"{data_type} is not collected: add it to data_types, or remove this"
                yield (*at, str(data_type)), reason


def _kind_problem(options: object, kinds: Collection[str], at: Key) -> Iterator[Problem]:
    kind = options.get("kind") if isinstance(options, Mapping) else None
    if kind in ("raw", "aggregated") and kinds and kind not in kinds:
        reason = f"{kind} is not offered by this venue (it offers {', '.join(kinds)})"
        yield (*at, "trade", "kind"), reason


def equal_ports(config: Config, said: Callable[[Key], bool]) -> Iterator[Problem]:
    """Two of our servers on one port; told of the key that was `said`, not of the default."""
    servers: list[tuple[Key, str, int]] = [
        (("http", "port"), config.http.host, config.http.port),
        (("metrics", "port"), config.metrics.host, config.metrics.port),
    ]
    if config.sink == "nats" and not config.nats.servers:
        embedded = config.nats.embedded
        servers += [
            (("nats", "embedded", "port"), embedded.host, embedded.port),
            (("nats", "embedded", "monitor_port"), embedded.host, embedded.monitor_port),
        ]
    for (one, host, port), (other, other_host, other_port) in combinations(servers, 2):
        if port and port == other_port and (host == other_host or _EVERYWHERE & {host, other_host}):
            wrong, right = (one, other) if said(one) and not said(other) else (other, one)
            yield wrong, f"{port} is {key_text(right)} too: each needs a port of its own"
