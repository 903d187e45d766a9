"""The configuration: what wins over what, and what is said of mistakes."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketprism.errors import ConfigError
from marketprism.feeds import OFFERS
from marketprism.settings import config, sources
from marketprism.settings.config import Config, DataType

VENUES = {name: OFFERS[name] for name in ("binance_spot", "deribit_derivatives")}
SPOT = "exchanges: {binance_spot: {symbols: [BTC-USDT]}}\n"
CANARY = "canary-5f1d"


def load(
    directory: Path,
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    only: tuple[str, ...] = (),
) -> Config:
    """Load a configuration with this text as its main file, or without one."""
    path = None
    if text is not None:
        path = directory / "main.yaml"
        path.write_text(text, encoding="utf-8")
    return config.load(
        path=path, environ=environ or {}, directory=directory, venues=VENUES, only=only
    )


def problems(directory: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Say what is wrong with this text as a main file."""
    with pytest.raises(ConfigError) as caught:
        load(directory, text, environ)
    return caught.value.problems


def test_without_any_file_the_packaged_one_is_used(tmp_path: Path) -> None:
    """A start in an empty directory collects BTC and ETH."""
    loaded = config.load(path=None, environ={}, directory=tmp_path, venues=OFFERS)
    assert loaded.exchanges["binance_spot"].symbols == ("BTC-USDT", "ETH-USDT")
    assert loaded.exchanges["binance_spot"].api.base_url == "https://api.binance.com"
    assert loaded.nats.embedded.config_file == sources.DEFAULTS / "nats/nats-server.conf"
    assert loaded.nats.embedded.store_dir == tmp_path / "data/nats"


def test_file_is_looked_up_in_the_promised_order(tmp_path: Path) -> None:
    """The option wins over the variable, that over the local file, that over the packaged."""
    environ = {"MARKETPRISM_CONFIG": "from-environment.yaml"}
    local = tmp_path / "config/collector/unified_data_collection.yaml"
    assert sources.find(None, {}, tmp_path).is_relative_to(sources.DEFAULTS)
    local.parent.mkdir(parents=True)
    local.touch()
    assert sources.find(None, {}, tmp_path) == local
    assert sources.find(None, environ, tmp_path) == tmp_path / "from-environment.yaml"
    assert sources.find(Path("asked.yaml"), environ, tmp_path) == tmp_path / "asked.yaml"


def test_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    """A name given on purpose never falls back on anything."""
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        config.load(path=Path("absent.yaml"), environ={}, directory=tmp_path, venues=VENUES)


def test_environment_wins_over_file_and_file_over_defaults(tmp_path: Path) -> None:
    """Three layers, each key by itself."""
    text = SPOT + "http: {host: 0.0.0.0, port: 1000}\nlog: {level: debug}\n"
    loaded = load(tmp_path, text, {"HEALTH_CHECK_PORT": "2000", "METRICS_PORT": ""})
    assert (loaded.http.host, loaded.http.port) == ("0.0.0.0", 2000)
    assert loaded.metrics.port == 9093
    assert loaded.log.level == "DEBUG"


def test_every_variable_reaches_its_key(tmp_path: Path) -> None:
    """The variables people set in a container do what they say."""
    loaded = load(
        tmp_path,
        SPOT,
        {
            "LOG_LEVEL": "warning",
            "NATS_URL": "nats://a:4222, nats://b:4222",
            "NATS_STREAM": "OTHER",
            "HEALTH_CHECK_HOST": "::",
            "METRICS_HOST": "::1",
            "METRICS_PORT": "0",
            "https_proxy": "http://proxy:3128",
            "ALL_PROXY": "socks5://proxy:1080",
            "NO_PROXY": "localhost,.internal",
        },
    )
    assert loaded.log.level == "WARNING"
    assert loaded.nats.servers == ("nats://a:4222", "nats://b:4222")
    assert loaded.nats.stream.name == "OTHER"
    assert (loaded.http.host, loaded.metrics.host, loaded.metrics.port) == ("::", "::1", 0)
    assert loaded.proxy.https == "http://proxy:3128"
    assert loaded.proxy.all == "socks5://proxy:1080"
    assert loaded.proxy.no_proxy == ("localhost", ".internal")


def test_file_with_exchanges_names_all_that_is_collected(tmp_path: Path) -> None:
    """A venue which the file does not name is off, as is one that is not enabled."""
    text = """
    exchanges:
      binance_spot: {symbols: [BTC-USDT], enabled: false}
      deribit_derivatives:
        api: {base_url: https://d.example, ws_url: wss://d.example}
        symbols: [BTC]
    """
    loaded = load(tmp_path, text)
    assert list(loaded.exchanges) == ["deribit_derivatives"]
    assert loaded.exchanges["deribit_derivatives"].data_types == (DataType.VOLATILITY_INDEX,)


def test_only_the_venues_asked_for_are_collected(tmp_path: Path) -> None:
    """What the command line asks for is collected, enabled or not; it must be configured."""
    text = "exchanges: {binance_spot: {symbols: [BTC-USDT], enabled: false}}"
    assert list(load(tmp_path, text, only=("binance_spot",)).exchanges) == ["binance_spot"]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, only=("binance_spt",))
    assert caught.value.problems == [
        '--exchange binance_spt: unknown venue (did you mean "binance_spot"?)'
    ]
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, only=("deribit_derivatives", "foo"))
    assert caught.value.problems == [
        "--exchange deribit_derivatives: not configured (exchanges names binance_spot)",
        "--exchange foo: unknown venue (there is binance_spot, deribit_derivatives)",
    ]


@pytest.mark.parametrize("place", ["exchange_configs", "config/collector/exchange_configs"])
def test_venue_defaults_stand_in_their_own_file(tmp_path: Path, place: str) -> None:
    """A file beside the main one, or in ./config, is above the packaged and below the main."""
    own = tmp_path / place / "binance_spot.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("limits: {silence_timeout: 7s, rest_share: 0.5}\n", encoding="utf-8")
    text = "exchanges: {binance_spot: {symbols: [BTC-USDT], limits: {rest_share: 0.25}}}"
    limits = load(tmp_path, text).exchanges["binance_spot"].limits
    assert (limits.silence_timeout, limits.rest_share) == (7.0, 0.25)
    assert limits.streams_per_connection == 200

    own.write_text("limits: {silence_timout: 7s}\n", encoding="utf-8")
    (line,) = problems(tmp_path, text)
    assert line.startswith("exchanges.binance_spot.limits.silence_timout: unknown key")
    assert line.endswith(f"(in {own})")


def test_all_problems_are_told_at_once_each_by_its_key(tmp_path: Path) -> None:
    """Nobody mends a file one error at a time."""
    text = """
    exchanges:
      binance_spot:
        orderbok: {depth: 5}
        trade: {kind: rw}
        orderbook: {depth: .nan, snapshot_interval: -1}
        symbols: [btc-usdt, BTCUSDT, yes, "*-USDT"]
        data_types: [trade, liquidation]
        api: {base_url: ftp://x}
      binance_spt: {}
    nats: {stream: {duplicate_window: 3d}, batch: 1.5}
    http: 8086
    """
    told = problems(tmp_path, text, {"METRICS_PORT": "70000"})
    for expected in [
        'exchanges.binance_spot.orderbok: unknown key (did you mean "orderbook"?)',
        'exchanges.binance_spot.trade.kind: must be raw or aggregated (did you mean "raw"?)',
        "exchanges.binance_spot.orderbook.depth: must be a whole number from 1 to 5000",
        "exchanges.binance_spot.api.base_url: must be a URL starting with https:// or http://",
        'exchanges.binance_spt: unknown venue (did you mean "binance_spot"?)',
        "nats.stream: duplicate_window must not be longer than max_age",
        "nats.batch: must be a whole number, 1 or more",
        "http: must be a section of keys",
        "METRICS_PORT: must be a port, from 0 to 65535",
    ]:
        assert expected in told
    starts = [line.split(": ")[0] for line in told]
    assert "exchanges.binance_spot.orderbook.snapshot_interval" in starts
    assert "exchanges.binance_spot.symbols[2]" in starts
    assert all("\n" not in line for line in told)


def test_symbols_and_data_types_must_suit_their_venue(tmp_path: Path) -> None:
    """Pairs where pairs are traded, bare currencies for the volatility index."""
    text = """
    exchanges:
      binance_spot: {symbols: [btc-usdt, BTCUSDT, "*-USDT"], data_types: [trade, liquidation]}
      deribit_derivatives:
        api: {base_url: https://d.example, ws_url: wss://d.example}
        symbols: [BTC, BTC-USD]
    """
    assert problems(tmp_path, text) == [
        "exchanges.binance_spot.data_types[1]: liquidation is not offered by this venue"
        " (it offers orderbook, trade)",
        "exchanges.binance_spot.symbols[0]: must look like BTC-USDT or *-USDT, in upper case"
        ' (did you mean "BTC-USDT"?)',
        "exchanges.binance_spot.symbols[1]: must look like BTC-USDT or *-USDT, in upper case"
        ' (did you mean "BTC-USDT"?)',
        "exchanges.deribit_derivatives.symbols[1]: must look like BTC, in upper case"
        ' (did you mean "BTC"?)',
    ]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("symbols: []", "exchanges.binance_spot.symbols: must name at least one"),
        ("symbols: BTC-USDT", "exchanges.binance_spot.symbols: must be a list, as in [a, b]"),
        ("enabled: true", "exchanges.binance_spot.symbols: is missing"),
        ("symbols: [A-B, A-B]", "exchanges.binance_spot.symbols: names something twice"),
        ("symbols: [A-B], name: x", "exchanges.binance_spot.name: unknown key"),
        ("symbols: [A-B], enabled: 1", "exchanges.binance_spot.enabled: must be true or false"),
        ("symbols: [A-B], enabled: false", "exchanges: none of them is enabled"),
    ],
)
def test_venue_section_is_checked(tmp_path: Path, section: str, expected: str) -> None:
    """Each mistake gives the one line which names it."""
    assert problems(tmp_path, f"exchanges: {{binance_spot: {{{section}}}}}") == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [\n", "line 3: "),
        ("sink: nats\nsink: stdout\n", 'line 2: "sink" is given twice'),
        ("http:\n  port: 1\n  port: 2\n", 'line 3: "port" is given twice'),
        ("symbols: [*-USDT]\n", 'line 1: *-USDT must be in quotes: "*-USDT"'),
        ("symbols:\n  - *\n", 'line 2: * must be in quotes: "*"'),
        ("password: *canary\n", "line 1: text that begins with * must be in quotes"),
        ("a:\n\tb: 1\n", "line 2: a tab: YAML is indented with spaces"),
        ("a: 1\n\tb: 1\n", "line 2: a tab: YAML is indented with spaces"),
        ("a:\t1\n", "line 1: a tab: YAML is indented with spaces"),
        ("1: 2\n", "line 1: a key must be text"),
        ("- a\n", "must be a section of keys"),
        ("a: \0\n", "cannot be read: "),
    ],
)
def test_file_that_is_no_yaml_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    """The line of the file is named, without a traceback; the last of two keys does not win."""
    (line,) = problems(tmp_path, text)
    assert line.startswith(f"{tmp_path / 'main.yaml'}: {expected}")
    assert "\n" not in line
    assert "canary" not in line


@pytest.mark.parametrize(
    ("exchanges", "expected"),
    [
        (
            "[binance_spot]",
            "exchanges: must be a section of keys, one a venue,"
            " as in {binance_spot: {symbols: [BTC-USDT]}}",
        ),
        (
            "deribit_derivatives",
            "exchanges: must be a section of keys, one a venue,"
            " as in {deribit_derivatives: {symbols: [BTC]}}",
        ),
        (
            "{}",
            "exchanges: must name at least one venue, as in {binance_spot: {symbols: [BTC-USDT]}}",
        ),
        (
            "{deribit_derivatives: [BTC]}",
            "exchanges.deribit_derivatives: must be a section of keys, as in {symbols: [BTC]}",
        ),
    ],
)
def test_venues_in_another_shape_are_told_the_right_one(
    tmp_path: Path, exchanges: str, expected: str
) -> None:
    """A list or a word is what people write first."""
    assert problems(tmp_path, f"exchanges: {exchanges}") == [expected]


def test_an_empty_file_is_told_from_one_that_says_something(tmp_path: Path) -> None:
    """Comments say nothing."""
    path = tmp_path / "main.yaml"
    for text, empty in [("", True), ("# later\n", True), ("log: {level: INFO}\n", False)]:
        path.write_text(text)
        assert sources.is_empty(path) is empty


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """Passwords and tokens stand neither in the configuration's repr nor in any problem."""
    environ = {
        "NATS_URL": f"nats://user:{CANARY}@n:4222,nats://{CANARY}@m:4222",
        "HTTPS_PROXY": f"http://user:{CANARY}@proxy:3128",
    }
    loaded = load(tmp_path, SPOT, environ)
    assert CANARY in loaded.nats.servers[0]
    assert CANARY not in repr(loaded)
    assert CANARY not in str(loaded)


@pytest.mark.parametrize(
    "url",
    [
        f"nats://user:{CANARY}/x@n:4222",
        f"nats://user:{CANARY}@n:70000",
        f"nats://user:{CANARY}@n/path",
        f"wss://user:{CANARY}@n",
        f"nats://user:{CANARY}@",
        f"nats://us er:{CANARY}@n",
        f"nats://[{CANARY}@n",
        CANARY,
    ],
)
def test_url_that_is_wrong_is_not_repeated(tmp_path: Path, url: str) -> None:
    """A URL which cannot be read may hold its password anywhere."""
    told = problems(tmp_path, SPOT + f"nats: {{servers: ['{url}']}}")
    assert [line.split(": ")[0] for line in told] == ["nats.servers[0]"]
    assert CANARY not in told[0]
    told = problems(tmp_path, SPOT, {"NATS_URL": url, "ALL_PROXY": url})
    assert [line.split(": ")[0] for line in told] == ["NATS_URL", "ALL_PROXY"]
    assert CANARY not in "".join(told)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([])
)
KEYS = st.sampled_from(
    ["exchanges", "binance_spot", "nats", "servers", "stream", "name", "api", "log_file", "port"]
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)


# A busy machine draws slowly, and loads slowly.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(tree=st.dictionaries(KEYS, TREES))
def test_any_mapping_is_loaded_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, tree: object
) -> None:
    """No content of a file raises anything but a ConfigError with at least one line."""
    directory = tmp_path_factory.getbasetemp()
    try:
        load(directory, json.dumps(tree))  # JSON is YAML
    except ConfigError as error:
        assert error.problems
        assert all(line and "\n" not in line for line in error.problems)


def test_file_that_contains_itself_is_refused(tmp_path: Path) -> None:
    """An anchor that refers to its own section ends in words, not in endless recursion."""
    told = problems(tmp_path, "exchanges: &all {binance_spot: *all}")
    assert "exchanges.binance_spot.binance_spot: unknown key" in told


def test_what_is_right_of_a_venue_is_judged_beside_what_is_wrong(tmp_path: Path) -> None:
    """A bad number hides neither a bad symbol nor a data type that is not on offer."""
    found = problems(
        tmp_path,
        """
        exchanges:
          binance_spot:
            symbols: [btc-usdt]
            data_types: [funding_rate]
            orderbook: {depth: 0}
        """,
    )
    assert len(found) == 3
    text = "exchanges: {binance_spot: {symbols: [btc-usdt], data_types: [trades]}}"
    assert [line.split(":")[0] for line in problems(tmp_path, text)] == [
        "exchanges.binance_spot.data_types[0]",
        "exchanges.binance_spot.symbols[0]",
    ]
