"""The packaged defaults, and that the files in config/ tell the truth about themselves."""

import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import yaml

from marketprism.errors import ConfigError
from marketprism.feeds import OFFERS
from marketprism.settings import config, sources
from marketprism.settings.config import (
    Config,
    Limits,
    LogFile,
    NatsConfig,
    OutboxConfig,
    SpoolConfig,
    VenueConfig,
)
from marketprism.settings.structuring import structure
from marketprism.settings.yaml_files import read

MAIN = sources.DEFAULTS / "collector/unified_data_collection.yaml"
VENUE_FILES = sorted((sources.DEFAULTS / "collector/exchange_configs").glob("*.yaml"))

# A commented-out key, or a parent of such: `# name: value  # remark`, at any indentation.
DORMANT = re.compile(r"^( *)# ((?: {2})*[a-z_]+:(?: .*)?)$")


def awake(text: str) -> str:
    """The file as if its commented-out keys were live; prose has no colon after its first word."""
    return "\n".join(
        f"{match[1]}{match[2]}" if (match := DORMANT.match(line)) else line
        for line in text.splitlines()
    )


def keys(owner: type, at: str = "") -> Iterator[str]:
    """Every key a section of the main file may have."""
    for field in attrs.fields(owner):
        name = f"{at}{field.name}"
        if name in ("exchanges", "log_file") or "variable" in field.metadata:
            continue
        assert field.type is not None
        if attrs.has(field.type):
            yield from keys(field.type, f"{name}.")
        else:
            yield name


def documented(tree: object, at: str = "") -> Iterator[str]:
    """Every key a tree has."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from documented(value, f"{at}.{name}".removeprefix("."))
    else:
        yield at


def test_packaged_defaults_are_found() -> None:
    """All that is fallen back on lies within the package."""
    for name in [
        "collector/unified_data_collection.yaml",
        "collector/exchange_configs/binance_spot.yaml",
        "logging/logging_config.yaml",
        "nats/nats-server.conf",
        "nats/nats-server-docker.conf",
    ]:
        assert (sources.DEFAULTS / name).is_file()
    assert sources.DEFAULTS.is_relative_to(Path(sources.__file__).parents[1])
    assert {file.stem for file in VENUE_FILES} == set(OFFERS)


def test_packaged_main_file_loads(tmp_path: Path) -> None:
    """It runs as it is, and says nothing but the defaults."""
    loaded = config.load(path=None, environ={}, directory=tmp_path, venues=OFFERS)
    assert set(loaded.exchanges) == set(OFFERS)
    assert loaded == Config(
        exchanges=loaded.exchanges,
        nats=loaded.nats,
        outbox=loaded.outbox,
        log_file=loaded.log_file,
    )
    spool = SpoolConfig(path=tmp_path / "data/spool")
    assert loaded.outbox == OutboxConfig(spool=spool)
    assert loaded.nats == NatsConfig(embedded=loaded.nats.embedded)


def test_every_key_is_documented_with_its_default(tmp_path: Path) -> None:
    """The main file with all its comments live has every key, and means what it meant before."""
    path = tmp_path / "main.yaml"
    path.write_text(awake(MAIN.read_text(encoding="utf-8")), encoding="utf-8")
    tree = read(path)
    sections = {name: value for name, value in tree.items() if name != "exchanges"}
    assert sorted(documented(sections)) == sorted(keys(Config))

    loaded = config.load(path=path, environ={}, directory=tmp_path, venues=OFFERS)
    dormant = config.load(path=None, environ={}, directory=tmp_path, venues=OFFERS)
    assert loaded == dormant


def test_key_nobody_knows_would_be_noticed(tmp_path: Path) -> None:
    """The check above can fail."""
    path = tmp_path / "main.yaml"
    text = MAIN.read_text(encoding="utf-8").replace("# channel:", "# chanel:")
    path.write_text(awake(text), encoding="utf-8")
    with pytest.raises(ConfigError, match="chanel"):
        config.load(path=path, environ={}, directory=tmp_path, venues=OFFERS)


@pytest.mark.parametrize("file", VENUE_FILES, ids=lambda file: file.stem)
def test_venue_file_documents_every_limit(file: Path) -> None:
    """A venue's endpoints and all its limits stand in its file, and are valid."""
    tree = dict(read(file))
    venue, problems = structure(
        {"name": file.stem, "symbols": ["A-B"], "data_types": [], **tree}, VenueConfig
    )
    assert problems == []
    assert venue is not None
    assert set(tree) >= {"api", "limits"}
    limits = tree["limits"]
    assert isinstance(limits, dict)
    assert set(limits) == {field.name for field in attrs.fields(Limits)}


def test_log_file_settings_are_the_defaults() -> None:
    """The file documents every key with its default."""
    tree = read(sources.DEFAULTS / "logging/logging_config.yaml")
    assert set(tree) == {field.name for field in attrs.fields(LogFile)}
    assert structure(tree, LogFile) == (LogFile(), [])


def test_compose_file_runs_both_services() -> None:
    """The compose file names the services, limits and ports which people rely on."""
    file = Path(__file__).parent.parent / "docker-compose.unified.yml"
    services = yaml.safe_load(file.read_text(encoding="utf-8"))["services"]
    collector = services["data-collector"]
    assert set(services) == {"nats", "data-collector"}
    assert collector["image"] == "marketprism/data-collector"
    assert collector["container_name"] == "marketprism-data-collector"
    assert collector["restart"] == "unless-stopped"
    assert collector["ports"] == ["8086:8086", "9093:9093"]
    assert collector["environment"]["PYTHONUNBUFFERED"] == "1"
    assert collector["deploy"]["resources"] == {
        "limits": {"memory": "2G"},
        "reservations": {"memory": "512M"},
    }
