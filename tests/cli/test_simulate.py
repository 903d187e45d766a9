"""`simulate`, as somebody uses it who has no exchange: what it prints is what they need."""

import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import yaml
from patience import PATIENCE

from marketprism.cli import simulate
from marketprism.cli.commands import main
from marketprism.feeds import OFFERS
from marketprism.simulator import Address, Market, record
from marketprism.simulator.capture import Line

pytestmark = pytest.mark.once


def capture(path: Path, *, venue: str = "binance_spot", without: str = "", url: str = "") -> Path:
    """A recording of two seconds, without some streams, from another host where `url` is given."""
    lines = [msgspec.json.decode(line, type=Line) for line in record(Market(3), 2.0, venue=venue)]
    kept = [line for line in lines if not without or f'@{without}"' not in line.raw]
    if url:
        kept[0] = msgspec.structs.replace(kept[0], url=url)
    path.write_text("".join(msgspec.json.encode(line).decode() + "\n" for line in kept))
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that it says, having exited with 2."""
    assert main(["simulate", *arguments]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    return line.removeprefix("marketprism: ")


class Simulation:
    """`simulate` in a process of its own; `said` is what it printed so far."""

    def __init__(self) -> None:
        self.said = ""
        self.process: trio.Process

    async def __aenter__(self) -> "Simulation":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.kill()
        await self.process.wait()

    async def start(self, *arguments: str) -> None:
        self.process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "marketprism", "simulate", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    async def until(self, words: str) -> None:
        """Wait until it has printed that."""
        assert self.process.stdout is not None
        with trio.fail_after(PATIENCE):
            while words not in self.said:
                more = await self.process.stdout.receive_some()
                assert more, self.said
                self.said += more.decode()


@pytest.mark.parametrize("venue", OFFERS)
async def test_what_it_prints_is_a_configuration_that_passes_check(
    venue: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, put into a file; every symbol and data type is in it."""
    async with Simulation() as simulation:
        await simulation.start("--venue", venue)
        await simulation.until("/simulator\n")
        simulation.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await simulation.process.wait() == 0
    path = tmp_path / "simulated.yaml"
    path.write_text(simulation.said)
    assert main(["check", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"  data types  {', '.join(OFFERS[venue])}\n" in out
    expected = {"deribit_derivatives": "BTC, ETH", "okx_derivatives": "BTC-USDT, ETH-USDT, BTC-USD"}
    assert f"{venue}: {expected.get(venue, 'BTC-USDT, ETH-USDT')}\n" in out


async def test_a_recording_is_configured_by_what_is_in_it_and_its_end_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of aggregates, without raw trades: they are collected, and who subscribes raw ones is told
    why nothing comes.
    """
    path = capture(tmp_path / "x.jsonl", without="trade")
    async with Simulation() as simulation:
        await simulation.start("--capture", str(path), "--speed", "inf")
        await simulation.until("/simulator\n")
        printed = yaml.safe_load(simulation.said)["exchanges"]["binance_spot"]
        assert printed["trade"] == {"kind": "aggregated"}
        assert printed["data_types"] == ["orderbook", "trade"]
        assert printed["symbols"] == ["BTC-USDT", "ETH-USDT"]
        config: dict[str, Any] = {"exchanges": {"binance_spot": {**printed, "trade": {}}}}
        config |= {"sink": "stdout", "http": {"port": 0}, "metrics": {"port": 0}}
        (tmp_path / "raw.yaml").write_text(yaml.safe_dump(config))
        with (tmp_path / "out.jsonl").open("wb") as out, (tmp_path / "log").open("wb") as log:
            collector = await trio.lowlevel.open_process(
                [sys.executable, "-m", "marketprism", "--config", "raw.yaml"],
                cwd=tmp_path,
                stdout=out,
                stderr=log,
            )
            try:
                await simulation.until("# not in the recording: btcusdt@trade, ethusdt@trade")
                await simulation.until("its trades are aggregated: trade.kind: aggregated")
                await simulation.until("# the recording is at its end, ")
                collector.send_signal(signal.SIGTERM)
                with trio.fail_after(PATIENCE):
                    assert await collector.wait() == 0
            finally:
                collector.kill()
    # And what standard output had are JSON lines, the payloads.
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert {msgspec.json.decode(line)["data_type"] for line in lines} == {"orderbook"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no recording: it is empty"),
        ("\n\n", "is no recording: it is empty"),
        ("exchanges:\n  binance_spot:\n", "is no recording: line 1: JSON is malformed"),
        ('{"ts":"1","kind":"connect"}\n{"a":1}\n', "is no recording: line 2: Object missing"),
        ("\xff\xfe", "is no recording: 'utf-8' codec can't decode"),
        ('{"ts":"1","kind":"recv","raw":"hello"}\n', "cannot be played as binance_spot: "),
        ('{"ts":"1","kind":"recv","raw":"{}"}\n', "nothing that binance_spot collects is in it"),
        ('{"ts":"x","kind":"recv","raw":"{\\"e\\":\\"trade\\",\\"s\\":\\"BTCUSDT\\"}"}\n', "x'"),
    ],
)
def test_a_file_that_is_no_recording_is_one_line(
    tmp_path: Path, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the file, and where in it; exit 2, and no traceback."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(content.encode("latin-1"))
    line = refused(capsys, "--capture", str(path))
    assert line.startswith(f"--capture {path}: ")
    assert words in line


def test_a_recording_of_another_venue_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the host that it was recorded from; else by what is in it."""
    spot = capture(tmp_path / "spot.jsonl")
    assert refused(capsys, "--venue", "okx_spot", "--capture", str(spot)) == (
        f"--capture {spot}: is a recording of binance_spot, not of okx_spot"
    )
    usdm = capture(tmp_path / "usdm.jsonl", url="wss://fstream.binance.com/stream")
    assert refused(capsys, "--capture", str(usdm)) == (
        f"--capture {usdm}: is a recording of binance_derivatives, not of binance_spot"
    )
    elsewhere = capture(tmp_path / "elsewhere.jsonl", url="ws://127.0.0.1:1")
    assert refused(capsys, "--venue", "okx_spot", "--capture", str(elsewhere)) == (
        f"--capture {elsewhere}: nothing that okx_spot collects is in it"
    )


@pytest.mark.parametrize(
    ("name", "venue", "words"),
    [
        ("binance_usdm/capture_2021-04-17_4sym", "binance_spot", "is a recording of binance_deri"),
        ("binance_coinm/capture_2021-07-22_10sym", "binance_derivatives", "cannot be played as"),
        ("deribit/capture_2021-07-22_book_ticker_options", "deribit_derivatives", "nothing that"),
        ("okx/instruments_2022-02-27", "okx_spot", "nothing that okx_spot collects is in it"),
        ("okx/ws_2026-08_ccxt", "okx_spot", "is no recording: line 1: "),
    ],
)
def test_real_recordings_that_do_not_suit_are_one_line(
    name: str, venue: str, words: str, captures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another market, of other data, or not of this form."""
    line = refused(capsys, "--venue", venue, "--capture", str(captures / f"{name}.jsonl"))
    assert words in line


async def test_only_what_the_venue_collects_is_listed(captures: Path) -> None:
    """Of a recording of spot pairs, swaps and options each venue gets its own."""
    path = captures / "okx/capture_2021-07-22_books-l2-tbt_10inst.jsonl"
    for venue, expected in (("okx_derivatives", ["XMR-USDT"]), ("okx_spot", None)):
        exchange, recording = simulate._played(path, venue, math.inf)
        symbols = await simulate.listed(exchange, venue)
        assert symbols == expected or (expected is None and len(symbols) == 6)
        lines = simulate.configuration(venue, Address("ws://w", "http://h"), symbols, recording)
        parsed = yaml.safe_load("\n".join(lines))["exchanges"][venue]
        assert parsed["symbols"] == symbols
        assert parsed["data_types"] == ["orderbook", "trade"]
        assert "trade" not in parsed
