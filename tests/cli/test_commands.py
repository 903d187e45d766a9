"""The commands as people type them: what they print, and the codes they exit with."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import yaml
from patience import PATIENCE

from marketprism import __version__
from marketprism.cli.commands import main
from marketprism.observe import log

OURS = ("LOG_", "NATS_", "COLLECTOR_", "HEALTH_", "METRICS_", "MARKETPRISM_")
CONFIG = {"exchanges": {"binance_spot": {"symbols": ["BTC-USDT"]}}}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory, and nothing of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(OURS) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else has."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def file(content: object, name: str = "x.yaml") -> str:
    """A configuration file."""
    Path(name).write_text(yaml.safe_dump(content))
    return name


def exits(*arguments: str) -> int:
    """The exit code, argparse's own exits too; all is said by then, as at a process's end."""
    before = sys.stderr
    try:
        return main(arguments)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code
    finally:
        log.close()
        sys.stderr = before


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, exit 0."""
    assert exits("--help") == 0
    out = capsys.readouterr().out
    for word in ("run", "launcher", "check", "demo", "simulate", "--config", "COLLECTOR_MODE"):
        assert word in out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """One line."""
    assert exits("--version") == 0
    assert capsys.readouterr().out == f"marketprism {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("--nonsense",),
        ("check", "--nonsense"),
        ("simulate", "--ws-port", "70000"),
        ("simulate", "--seed", "x"),
        ("--config",),
    ],
)
def test_what_cannot_be_understood_exits_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Usage on standard error, with the word that is wrong."""
    assert exits(*arguments) == 2
    said = capsys.readouterr()
    assert "usage: marketprism" in said.err
    assert arguments[-1] in said.err
    assert said.out == ""


def test_check_says_what_would_be_collected_and_where_it_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every venue with its symbols, types and addresses; no secret of any."""
    api = {"base_url": "https://user:secret@api.test", "ws_url": "wss://ws.test"}
    venue = {"api": api, "symbols": ["BTC-USDT", "ETH-*"], "data_types": ["trade"]}
    monkeypatch.setenv("NATS_URL", "nats://me:secret@nats.test:4222")
    path = file({"exchanges": {"binance_spot": venue}})
    assert exits("check", "--config", path) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        f"configuration: {Path(path).absolute()}",
        "binance_spot: BTC-USDT, ETH-*",
        "  data types  trade",
        "  websocket   wss://ws.test",
        "  REST        https://***@api.test",
        "sink: nats://***@nats.test:4222, stream MARKET_DATA",
        "  login       the user and password in the URL",
        "  TLS         as the server says",
        "health: http://127.0.0.1:8086/health",
        "metrics: http://127.0.0.1:9093/metrics",
    ]


def test_check_says_which_sink_takes_the_place_of_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The embedded server, or standard output."""
    assert exits("--config", file(CONFIG), "check") == 0
    embedded = "sink: embedded nats-server on 127.0.0.1:4222, stream MARKET_DATA"
    assert embedded in capsys.readouterr().out
    assert exits("--config", file({**CONFIG, "sink": "stdout"}), "check") == 0
    assert "sink: standard output\n" in capsys.readouterr().out


def test_a_wrong_configuration_exits_2_with_a_line_a_problem(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each names its key; no traceback, whatever the command."""
    wrong = {
        "exchanges": {"binance_spot": {"symbols": ["BTC-USDT"], "limits": {"subscribe_batch": 0}}},
        "healht": 1,
        "outbox": {"max_messages": "many"},
    }
    path = file(wrong)
    for command in ("check", "run", "launcher"):
        assert exits("--config", path, command) == 2
        said = capsys.readouterr()
        lines = said.err.splitlines()
        assert len(lines) == 3
        assert all(line.startswith("marketprism: ") for line in lines)
        for key in ("exchanges.binance_spot.limits.subscribe_batch", "healht", "outbox.max_mess"):
            assert any(key in line for line in lines), key
        assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config", "absent.yaml", "check"), "absent.yaml: cannot be read"),
        (("--log-level", "loud", "check"), "--log-level loud: must be DEBUG or INFO or WARNING"),
        (("--log-level", "loud", "demo"), "--log-level loud: must be DEBUG or INFO or WARNING"),
        (("demo", "--log-level", "warn"), '(did you mean "WARNING"?)'),
        (("check", "--exchange", "nonsense"), "--exchange nonsense: unknown venue (there is bin"),
        (("demo", "--exchange", "nonsense"), "--exchange nonsense: unknown venue (there is bin"),
        (("demo", "--exchange", "okx"), '(did you mean "okx_derivatives" or "okx_spot"?)'),
        (("simulate", "--exchange", "okx_spot"), "--venue okx_spot"),
        (("simulate", "--config", "x.yaml"), "--config: simulate needs none"),
        (("simulate", "--speed", "0"), "--speed 0: must be above 0"),
        (("simulate", "--speed", "nan"), "--speed nan: must be above 0"),
        (("simulate", "--venue", "nonsense"), "--venue nonsense"),
        (("simulate", "--capture", "absent.jsonl"), "--capture absent.jsonl"),
    ],
)
def test_what_is_asked_for_and_is_not_there_exits_2(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One readable line that says which."""
    assert exits(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("marketprism: ")
    assert words in line


def test_an_empty_configuration_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """What is collected is the default, which nobody asked for by an empty file."""
    Path("empty.yaml").write_text("# nothing yet\n")
    assert exits("check", "--config", "empty.yaml") == 0
    said = capsys.readouterr()
    assert said.err == (
        f"marketprism: warning: {Path('empty.yaml').absolute()} is empty: all is the default\n"
    )
    assert "binance_spot: BTC-USDT, ETH-USDT" in said.out


@pytest.mark.parametrize("before", [True, False])
def test_the_demo_shows_the_venues_that_are_asked_for(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the option stands."""
    asked: list[list[str]] = []
    monkeypatch.setattr(
        "marketprism.cli.demo.run", lambda _level, _environ, only: asked.append(only)
    )
    option = ("--exchange", "okx_spot")
    assert exits(*(option if before else ()), "demo", *(() if before else option)) == 0
    assert asked == [["okx_spot"]]


def test_options_stand_before_or_after_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The later one wins; `--exchange` adds up, wherever it stands."""
    path, other = file(CONFIG), file({}, "other.yaml")
    for arguments in (
        ("--config", path, "check"),
        ("check", "--config", path),
        ("--config", other, "check", "--config", path),
    ):
        assert exits(*arguments) == 0
        assert capsys.readouterr().out.startswith(f"configuration: {Path(path).absolute()}\n")
    for before, after in (("nonsense", "binance_spot"), ("binance_spot", "nonsense")):
        assert exits("--config", path, "--exchange", before, "check", "--exchange", after) == 2
        assert "--exchange nonsense" in capsys.readouterr().err


def test_the_log_level_option_outranks_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In any case of letters."""
    monkeypatch.setenv("LOG_LEVEL", "loud")
    assert exits("--config", file(CONFIG), "check") == 2
    assert exits("--config", file(CONFIG), "--log-level", "debug", "check") == 0
    monkeypatch.setenv("LOG_LEVEL", "debug")
    levels: list[str] = []
    monkeypatch.setattr("marketprism.cli.demo.run", lambda level, *_: levels.append(level))
    assert exits("demo") == 0
    assert exits("demo", "--log-level", "error") == 0
    assert levels == ["DEBUG", "ERROR"]


def test_the_mode_is_the_command_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As compose files set it; a command that is given wins; one that is none exits 2."""
    path = file(CONFIG)
    monkeypatch.setenv("COLLECTOR_MODE", "check")
    assert exits("--config", path) == 0
    assert capsys.readouterr().out.startswith("configuration: ")
    monkeypatch.setenv("COLLECTOR_MODE", "nonsense")
    assert exits("--config", path, "check") == 0
    capsys.readouterr()
    assert exits("--config", path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("marketprism: COLLECTOR_MODE: must be one of run, launcher, ")


def test_the_mode_may_be_a_command_with_options_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They have their defaults."""
    asked: list[str] = []
    monkeypatch.setenv("COLLECTOR_MODE", "simulate")
    monkeypatch.setattr("marketprism.cli.simulate.run", lambda venue, **_: asked.append(venue))
    assert exits() == 0
    assert asked == ["binance_spot"]


def finished(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "marketprism", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def collecting_nothing() -> str:
    """A configuration that needs neither NATS nor an exchange, on free ports."""
    api = {"base_url": "http://127.0.0.1:9", "ws_url": "ws://127.0.0.1:9"}
    free = {"port": 0}
    return file(
        {
            "exchanges": {"binance_spot": {"api": api, "symbols": ["BTC-USDT"]}},
            "sink": "stdout",
            "http": free,
            "metrics": free,
        }
    )


@pytest.mark.parametrize("variable", ["HEALTH_CHECK_PORT", "METRICS_PORT"])
def test_a_taken_port_exits_1_and_names_the_variable(variable: str, taken: int) -> None:
    """One line for people among the log's; no traceback."""
    done = finished("--config", collecting_nothing(), **{variable: str(taken)})
    assert done.returncode == 1
    expected = f"marketprism: port {taken} is taken ({variable} chooses another)"
    assert expected in done.stderr.splitlines()
    assert "Traceback" not in done.stderr


def test_a_collector_with_an_empty_configuration_says_so_in_its_log(taken: int) -> None:
    """It runs all the same, as far as it can here."""
    Path("empty.yaml").touch()
    environ = {"NATS_URL": "nats://127.0.0.1:9", "HEALTH_CHECK_PORT": str(taken)}
    done = finished("--config", "empty.yaml", **environ)
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    (line,) = (line for line in lines if line["event"] == "config.empty")
    assert line["level"] == "WARNING"
    assert line["path"] == str(Path("empty.yaml").absolute())


def test_a_taken_port_of_the_simulator_exits_1(taken: int) -> None:
    """In one line."""
    done = finished("simulate", "--ws-port", str(taken))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("marketprism: the simulated exchange cannot be served: ")


async def lines_until(process: trio.Process, pattern: str, seconds: float) -> str:
    """What a process has said when `pattern` is in it."""
    said = ""
    assert process.stdout is not None
    with trio.fail_after(seconds):
        while not re.search(pattern, said):
            more = await process.stdout.receive_some()
            assert more, said
            said += more.decode()
    return said


async def started(*arguments: str, **environ: str) -> trio.Process:
    """The command as a process of its own that runs."""
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "marketprism", *arguments],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.parametrize("command", [("launcher",), ("run",), ()])
async def test_the_collector_runs_until_it_is_told_to_stop(command: tuple[str, ...]) -> None:
    """Even where nothing can be reached; then it exits 0."""
    process = await started("--config", collecting_nothing(), *command)
    try:
        await lines_until(process, "collector.started", PATIENCE)
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
    finally:
        process.kill()


async def test_simulate_serves_and_says_how_to_collect_from_it() -> None:
    """Its words are a configuration; it exits 0 when it is told to stop."""
    process = await started("simulate")
    try:
        said = await lines_until(process, r"state: \S+\n", PATIENCE)
        api = yaml.safe_load(said)["exchanges"]["binance_spot"]["api"]
        host, _, port = api["base_url"].removeprefix("http://").partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(b"GET /api/v3/exchangeInfo HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+", api["ws_url"])
        process.send_signal(signal.SIGINT)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
    finally:
        process.kill()
