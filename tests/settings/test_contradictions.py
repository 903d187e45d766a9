"""What several keys of a configuration say together, and cannot all mean."""

from pathlib import Path

import pytest

from marketprism.errors import ConfigError
from marketprism.feeds import OFFERS, TRADE_KINDS
from marketprism.settings import config

SPOT = "symbols: [BTC-USDT]"


def problems(directory: Path, text: str, **environ: str) -> list[str]:
    """What is wrong with this text as a main file; nothing where it is loaded."""
    path = directory / "main.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        config.load(
            path=path, environ=environ, directory=directory, venues=OFFERS, trade_kinds=TRADE_KINDS
        )
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize("venue", ["binance_derivatives", "okx_spot", "okx_derivatives"])
def test_a_kind_of_trades_that_a_venue_does_not_have_is_an_error(
    tmp_path: Path, venue: str
) -> None:
    """In the words of the others; the kind that it has may be said, and nothing need be."""
    for options, expected in [
        (
            "trade: {kind: raw}",
            [f"exchanges.{venue}.trade.kind: raw is not offered by this venue"
             " (it offers aggregated)"],
        ),
        ("trade: {kind: aggregated}", []),
        ("trade: {}", []),
        ("enabled: true", []),
    ]:  # fmt: skip
        text = f"exchanges: {{{venue}: {{{SPOT}, {options}}}}}"
        assert problems(tmp_path, text) == expected


@pytest.mark.parametrize("kind", ["raw", "aggregated"])
def test_a_venue_that_has_both_kinds_takes_both(tmp_path: Path, kind: str) -> None:
    """Binance spot."""
    text = f"exchanges: {{binance_spot: {{{SPOT}, trade: {{kind: {kind}}}}}}}"
    assert problems(tmp_path, text) == []


def test_options_of_what_is_not_collected_are_an_error(tmp_path: Path) -> None:
    """They would have no effect, and somebody believes that they have."""
    text = f"""
    exchanges:
      binance_spot: {{{SPOT}, data_types: [trade], orderbook: {{depth: 5}}}}
      okx_spot: {{{SPOT}, data_types: [orderbook], trade: {{kind: aggregated}}}}
      deribit_derivatives: {{symbols: [BTC], orderbook: {{depth: 5}}}}
      binance_derivatives: {{{SPOT}, data_types: [trade, orderbook], orderbook: {{depth: 5}}}}
    """
    assert problems(tmp_path, text) == [
        "exchanges.binance_spot.orderbook: orderbook is not collected:"
        " add it to data_types, or remove this",
        "exchanges.okx_spot.trade: trade is not collected: add it to data_types, or remove this",
        "exchanges.deribit_derivatives.orderbook: orderbook is not offered by this venue",
    ]


def test_defaults_of_a_venue_may_say_more_than_is_collected(tmp_path: Path) -> None:
    """They stand in a file of their own, for whatever is collected by any configuration."""
    own = tmp_path / "exchange_configs/binance_spot.yaml"
    own.parent.mkdir()
    own.write_text("orderbook: {depth: 5}\n")
    text = f"exchanges: {{binance_spot: {{{SPOT}, data_types: [trade]}}}}"
    assert problems(tmp_path, text) == []


@pytest.mark.parametrize("depth", [0, 5001, 1_000_000_000, 10**30])
def test_a_book_deeper_than_any_exchange_tells_is_an_error(tmp_path: Path, depth: int) -> None:
    """5000 levels are the most that any of them has."""
    text = f"exchanges: {{binance_spot: {{{SPOT}, orderbook: {{depth: {depth}}}}}}}"
    assert problems(tmp_path, text) == [
        "exchanges.binance_spot.orderbook.depth: must be a whole number from 1 to 5000"
    ]


VENUE = f"exchanges: {{binance_spot: {{{SPOT}}}}}\n"


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        (
            "http: {port: 9093}",
            {},
            "http.port: 9093 is metrics.port too: each needs a port of its own",
        ),
        ("metrics: {port: 8086}", {}, "metrics.port: 8086 is http.port too: each needs a port of"),
        ("http: {port: 1}\nmetrics: {port: 1}", {}, "metrics.port: 1 is http.port too: each needs"),
        ("", {"METRICS_PORT": "8086"}, "METRICS_PORT: 8086 is http.port too: each needs a port of"),
        ("", {"HEALTH_CHECK_PORT": "4222"}, "HEALTH_CHECK_PORT: 4222 is nats.embedded.port too: "),
        (
            "nats: {embedded: {port: 8222}}",
            {},
            "nats.embedded.port: 8222 is nats.embedded.monitor_port too: each needs a port of its",
        ),
        (
            "http: {host: 0.0.0.0, port: 8222}",
            {},
            "http.port: 8222 is nats.embedded.monitor_port too: each needs a port of its own",
        ),
    ],
)
def test_two_servers_on_one_port_are_an_error(
    tmp_path: Path, text: str, environ: dict[str, str], expected: str
) -> None:
    """Told of who was configured so, not of the default that it meets."""
    (line,) = problems(tmp_path, VENUE + text, **environ)
    assert line.startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "http: {port: 0}\nmetrics: {port: 0}",  # each a free one
        "http: {port: 4222}\nnats: {servers: [nats://n:4222]}",  # no server of our own
        "http: {port: 4222}\nsink: stdout",
        "http: {host: 10.0.0.1, port: 1}\nmetrics: {host: 10.0.0.2, port: 1}",
    ],
)
def test_what_does_not_meet_is_no_error(tmp_path: Path, text: str) -> None:
    """Free ports, servers that are not started, other addresses."""
    assert problems(tmp_path, VENUE + text) == []
