"""Where the configuration comes from: the environment, files, and what is packaged."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import attrs

from marketprism.settings.structuring import Key
from marketprism.settings.yaml_files import Tree, read

DEFAULTS = Path(__file__).parent.with_name("defaults")
"""The packaged copy of `config/`."""

MAIN = Path("collector/unified_data_collection.yaml")
_VENUES = Path("collector/exchange_configs")
LOGGING = Path("logging/logging_config.yaml")
NATS_SERVER = Path("nats/nats-server.conf")

VARIABLES: Mapping[str, Key] = {
    "LOG_LEVEL": ("log", "level"),
    "NATS_URL": ("nats", "servers"),
    "NATS_STREAM": ("nats", "stream", "name"),
    # Those that the nats command knows too are called as there.
    "NATS_USER": ("nats", "user"),
    "NATS_PASSWORD": ("nats", "password"),
    "NATS_PASSWORD_FILE": ("nats", "password_file"),
    "NATS_TOKEN": ("nats", "token"),
    "NATS_TOKEN_FILE": ("nats", "token_file"),
    "NATS_CREDS": ("nats", "creds_file"),
    "NATS_NKEY": ("nats", "nkey_seed_file"),
    "NATS_CA": ("nats", "tls", "ca_file"),
    "NATS_CERT": ("nats", "tls", "cert_file"),
    "NATS_KEY": ("nats", "tls", "key_file"),
    "HEALTH_CHECK_HOST": ("http", "host"),
    "HEALTH_CHECK_PORT": ("http", "port"),
    "METRICS_HOST": ("metrics", "host"),
    "METRICS_PORT": ("metrics", "port"),
    **{
        spelling: ("proxy", key)
        for name, key in [("HTTPS_PROXY", "https"), ("ALL_PROXY", "all"), ("NO_PROXY", "no_proxy")]
        for spelling in (name, name.lower())
    },
}
"""Where each stands in the file. A later one wins over an earlier."""

_LISTS = {("nats", "servers"), ("proxy", "no_proxy")}


@attrs.frozen
class Source:
    """Something that says part of the configuration, and what to call it."""

    name: str
    tree: Tree

    def says(self, key: Key) -> bool:
        if (own := VARIABLES.get(self.name)) is not None:
            return key[: len(own)] == own
        at: object = self.tree
        for part in key:
            if isinstance(at, Mapping) and part in at:
                at = at[part]
            else:
                return isinstance(part, int)
        return True


def find(path: Path | None, environ: Mapping[str, str], directory: Path) -> Path:
    """The main file: the one asked for, else the environment's, else the local, else the packaged.

    One that is asked for need not exist: reading it says so.
    """
    if path is not None:
        return directory / path
    if named := environ.get("MARKETPRISM_CONFIG"):
        return directory / named
    local = directory / "config" / MAIN
    return local if local.is_file() else DEFAULTS / MAIN


def is_empty(file: Path) -> bool:
    """Whether a file says nothing at all: somebody meant to write it, and has not yet."""
    return not read(file)


def local_or_packaged(name: Path, directory: Path) -> Path:
    """A file of `config/`: the local one where there is one."""
    local = directory / "config" / name
    return local if local.is_file() else DEFAULTS / name


def venue_sources(
    file: Path, tree: Tree, directory: Path, venues: Collection[str]
) -> Iterator[Source]:
    """The defaults of each venue named: the packaged ones, then those beside the main file."""
    beside = file.parent / _VENUES.name
    if file == DEFAULTS / MAIN or not beside.is_dir():
        beside = directory / "config" / _VENUES
    named = tree["exchanges"]
    for venue in named if isinstance(named, Mapping) else ():
        if venue not in venues:
            continue
        for place in (DEFAULTS / _VENUES, beside):
            if (own := place / f"{venue}.yaml").is_file():
                yield Source(str(own), {"exchanges": {venue: read(own)}})


def environment(environ: Mapping[str, str]) -> Iterator[Source]:
    """What the environment says; a variable that is empty says nothing."""
    for variable, key in VARIABLES.items():
        value: object = environ.get(variable, "").strip()
        if not isinstance(value, str) or not value:
            continue
        if key in _LISTS:
            value = [item.strip() for item in value.split(",") if item.strip()]
        elif value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value) if key[-1] == "port" else value
        for part in reversed(key):
            value = {part: value}
        if isinstance(value, dict):
            yield Source(variable, value)
