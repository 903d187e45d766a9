"""The commands. Exit codes: 0 stopped as asked, 1 failed, 2 bad usage or configuration."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import structlog
import trio

from marketprism import __version__
from marketprism.errors import ConfigError, MarketPrismError, StartFailed, leaves
from marketprism.feeds import OFFERS, TRADE_KINDS
from marketprism.observe import log
from marketprism.redaction import redact
from marketprism.settings import config, credentials, quantities, sources
from marketprism.settings.nearest_names import suggestion
from marketprism.settings.settings import Config, LogLevel
from marketprism.settings.structuring import one_of
from marketprism.standard_streams import printing_in_background

STOPPED, FAILED, MISUSED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` ask for; its exit code."""
    given, parser = sys.argv[1:] if arguments is None else list(arguments), _parser()
    options = parser.parse_args(given)
    if options.command is None:
        mode = os.environ.get("COLLECTOR_MODE") or "run"
        if mode not in COMMANDS:
            words = f"must be one of {', '.join(COMMANDS)}{suggestion(mode, COMMANDS)}"
            return _say(ConfigError([f"COLLECTOR_MODE: {words}"]))
        options = parser.parse_args([*given, mode])
    command: Callable[[argparse.Namespace, Mapping[str, str]], int] = COMMANDS[options.command]
    environ = dict(os.environ)
    try:
        if options.log_level:
            environ["LOG_LEVEL"] = _level(options.log_level, f"--log-level {options.log_level}")
        return command(options, environ)
    except (MarketPrismError, BaseExceptionGroup) as error:
        return _say(error)


def _say(error: BaseException) -> int:
    """Say what went wrong, a line each; what is not ours to word is raised again."""
    found = list(leaves(error))
    if not all(isinstance(leaf, MarketPrismError) for leaf in found):
        raise error
    for leaf in found:
        problems = leaf.problems if isinstance(leaf, ConfigError) else [str(leaf)]
        for problem in problems:
            print(f"marketprism: {redact(problem)}", file=sys.stderr)
    return MISUSED if any(isinstance(leaf, ConfigError) for leaf in found) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="marketprism",
        parents=[_common()],
        description="Collects market data from exchanges and publishes it to NATS JetStream.",
        epilog="Without a command it runs the collector (COLLECTOR_MODE may name another).",
    )
    parser.add_argument("--version", action="version", version=f"marketprism {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    # Without defaults of its own: they would undo what stood before the command.
    common = _common("exchange_after", argument_default=argparse.SUPPRESS)
    for name, words in {
        "run": "run the collector (the default)",
        "launcher": "the same",
        "check": "validate the configuration and print what would be collected",
        "demo": "the whole system on this machine, without internet: simulated exchanges, "
        "embedded NATS, the collector",
    }.items():
        commands.add_parser(name, parents=[common], help=words, description=words)
    simulate = commands.add_parser(
        "simulate", parents=[common], help="serve the simulated exchanges alone"
    )
    _simulate_options(simulate)
    return parser


def _common(exchanges: str = "exchange", **defaults: Any) -> argparse.ArgumentParser:
    """What every command takes, before or after its name; those after it add to `exchanges`."""
    common = argparse.ArgumentParser(add_help=False, **defaults)
    common.add_argument("--config", type=Path, metavar="PATH", help="the configuration file")
    common.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR")
    common.add_argument(
        "--exchange",
        dest=exchanges,
        action="append",
        metavar="VENUE",
        help="collect this venue only; may be repeated",
    )
    return common


def _simulate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--venue", default=next(iter(OFFERS)), help="which exchange to be")
    parser.add_argument("--ws-port", type=port, default=0, help="0: a free one")
    parser.add_argument("--rest-port", type=port, default=0, help="0: a free one")
    parser.add_argument("--seed", type=int, default=0, help="of the random market")
    parser.add_argument("--capture", type=Path, help="play this recording, not a random market")
    parser.add_argument("--speed", type=float, default=1.0, help="of the recording; inf: at once")


def port(text: str) -> int:
    """A TCP port. argparse names it where it is none."""
    return quantities.port(int(text))


def _only(options: argparse.Namespace) -> list[str]:
    """The venues that `--exchange` names, before the command and after it."""
    return [*(options.exchange or ()), *getattr(options, "exchange_after", ())]


def _load(options: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    return config.load(
        path=options.config,
        environ=environ,
        directory=Path.cwd(),
        venues=OFFERS,
        only=_only(options),
        trade_kinds=TRADE_KINDS,
    )


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    loaded = _load(options, environ)
    if loaded.sink == "stdout" and sys.stdout is None:
        raise StartFailed("sink is stdout, and standard output is closed")
    log.configure(loaded.log.level, file=loaded.log_file)
    log.stand_in()
    if sources.is_empty(file := sources.find(options.config, environ, Path.cwd())):
        structlog.get_logger().warning("config.empty", path=str(file), collects="the default")
    # Imported here: `check` and --help need not wait for it.
    from marketprism.app import Collector
    from marketprism.stopping import run_until_signalled

    collector = Collector(loaded)
    trio.run(run_until_signalled, collector.run, collector.stopping)
    return FAILED if collector.undelivered else STOPPED


def _check(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    loaded = _load(options, environ)
    file = sources.find(options.config, environ, Path.cwd())
    if sources.is_empty(file):
        print(f"marketprism: warning: {file} is empty: all is the default", file=sys.stderr)
    print(f"configuration: {file}")
    for venue in loaded.exchanges.values():
        print(f"{venue.name}: {', '.join(venue.symbols)}")
        print(f"  data types  {', '.join(venue.data_types)}")
        print(f"  websocket   {redact(venue.api.ws_url)}")
        print(f"  REST        {redact(venue.api.base_url)}")
    embedded = loaded.nats.embedded
    servers = ", ".join(map(redact, loaded.nats.servers))
    target = servers or f"embedded nats-server on {embedded.host}:{embedded.port}"
    if loaded.sink == "stdout":
        print("sink: standard output")
    else:
        print(f"sink: {target}, stream {loaded.nats.stream.name}")
        way = credentials.login(loaded.nats, next(iter(loaded.nats.servers), "")).method
        print(f"  login       {way}")
        print(f"  TLS         {credentials.tls_words(loaded.nats.tls) or 'as the server says'}")
    print(f"health: http://{loaded.http.host}:{loaded.http.port}/health")
    print(f"metrics: http://{loaded.metrics.host}:{loaded.metrics.port}/metrics")
    return STOPPED


def _demo(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from marketprism.cli.demo import run

    if options.config is not None:
        raise ConfigError(["--config: the demo has a configuration of its own"])
    level = _level(environ.get("LOG_LEVEL") or "WARNING", "LOG_LEVEL")
    with printing_in_background():
        run(level, environ, _only(options))
    return STOPPED


def _level(text: str, key: str) -> LogLevel:
    """A log level, in any case of letters. Raises ConfigError, named for who said it."""
    try:
        return cast(LogLevel, one_of(text.upper(), get_args(LogLevel)))
    except ValueError as error:
        raise ConfigError([f"{key}: {error}"]) from None


def _simulate(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from marketprism.cli.simulate import run

    if options.config is not None:
        raise ConfigError(["--config: simulate needs none"])
    if only := _only(options):
        raise ConfigError([f"--exchange {only[0]}: simulate is one exchange: --venue {only[0]}"])
    if options.venue not in OFFERS:
        hint = suggestion(options.venue, OFFERS)
        raise ConfigError([f"--venue {options.venue}: there is {', '.join(OFFERS)}{hint}"])
    if options.capture is not None and not options.capture.is_file():
        raise ConfigError([f"--capture {options.capture}: there is no such file"])
    if not options.speed > 0:
        raise ConfigError([f"--speed {options.speed:g}: must be above 0"])
    try:
        run(
            options.venue,
            ws_port=options.ws_port,
            rest_port=options.rest_port,
            seed=options.seed,
            capture=options.capture,
            speed=options.speed,
        )
    except* OSError as errors:
        reason = next(leaves(errors))
        raise StartFailed(f"the simulated exchange cannot be served: {reason}") from errors
    return STOPPED


COMMANDS: Mapping[str, Callable[[argparse.Namespace, Mapping[str, str]], int]] = {
    "run": _run,
    "launcher": _run,
    "check": _check,
    "demo": _demo,
    "simulate": _simulate,
}
