"""Who we are to NATS, and whom we trust there: files read anew for each connection, so that what is
rotated is taken up. A file that holds a secret must not be readable by everybody.
"""

import os
import re
import ssl
import stat
from collections import UserString
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs
import nkeys

from marketprism.errors import MarketPrismError
from marketprism.settings.nats import NatsConfig, TlsConfig
from marketprism.settings.structuring import Problem
from marketprism.settings.yaml_files import Tree

_LARGEST: Final = 64 * 1024
"""Bytes of a secret file; more is something else."""
_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH
_CREDS: Final = re.compile(
    r"-+BEGIN NATS USER JWT-+\s+(?P<jwt>\S+)\s+-+END NATS USER JWT-+"
    r".*?-+BEGIN USER NKEY SEED-+\s+(?P<seed>\S+)\s+-+END USER NKEY SEED-+",
    re.DOTALL,
)


class Unusable(MarketPrismError):
    """What a key of `nats` names cannot be used; somebody has to look. Never holds a secret."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"nats.{key}: {reason}")
        self.key = ("nats", *key.split("."))
        self.reason = reason


@attrs.frozen
class Login:
    """How we say who we are."""

    method: str
    """In words."""
    options: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    """For the client."""


def login(config: NatsConfig, url: str) -> Login:
    """For the server at `url`. Raises Unusable."""
    parts = urlsplit(url)
    if parts.username is not None:
        name = unquote(parts.username)
        if parts.password is None:
            return Login("the token in the URL", {"token": name})
        options = {"user": name, "password": unquote(parts.password)}
        return Login("the user and password in the URL", options)
    if config.user is not None:
        where, password = "NATS_PASSWORD", config.password and config.password.text
        if config.password_file is not None:
            where, password = (
                f"{config.password_file}",
                _line("password_file", config.password_file),
            )
        words = f"user {config.user}, password from {where}"
        return Login(words, {"user": config.user, "password": password})
    if config.token is not None:
        return Login("token from NATS_TOKEN", {"token": config.token.text})
    if (path := config.token_file) is not None:
        return Login(f"token from {path}", {"token": _line("token_file", path)})
    if (path := config.creds_file) is not None:
        return Login(f"creds file {path}", {"user_credentials": UserString(_creds(path))})
    if (path := config.nkey_seed_file) is not None:
        seed = _seed("nkey_seed_file", _line("nkey_seed_file", path))
        return Login(f"nkey seed file {path}", {"nkeys_seed_str": seed})
    return Login("none")


def tls_context(config: TlsConfig) -> ssl.SSLContext | None:
    """What TLS is to be like; None where nothing is configured. Raises Unusable."""
    if not config.wanted:
        return None
    if config.ca_file is not None:
        _read("tls.ca_file", config.ca_file, secret=False)
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except ssl.SSLError:
        raise Unusable("tls.ca_file", "holds no certificate (PEM)") from None
    if config.cert_file is None or config.key_file is None:
        return context
    _read("tls.cert_file", config.cert_file, secret=False)
    _read("tls.key_file", config.key_file)
    try:
        # An encrypted key would be asked for its passphrase on the terminal.
        context.load_cert_chain(config.cert_file, config.key_file, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Unusable("tls.key_file", "is not the key of tls.cert_file") from None
        words = "cannot be used: cert_file must be a certificate, key_file its key, not encrypted"
        raise Unusable("tls", words) from None
    return context


def problems(config: NatsConfig) -> Iterator[Unusable]:
    """All that is wrong with the files, as far as it can be known without a server."""
    try:
        login(config, "")
    except Unusable as problem:
        yield problem
    try:
        tls_context(config.tls)
    except Unusable as problem:
        yield problem


def exposed(tree: Tree) -> Iterator[Problem]:
    """Secrets that stand in the main file, where too many people look."""
    nats = tree.get("nats")
    if not isinstance(nats, Mapping):
        return
    for name in ("password", "token"):
        if name in nats:
            words = f"must not stand in this file: set NATS_{name.upper()}, or {name}_file"
            yield ("nats", name), words
    servers = nats.get("servers")
    for number, server in enumerate(servers if isinstance(servers, list) else ()):
        if isinstance(server, str) and "@" in server:
            words = "must not hold a password or token: set NATS_URL, or keys such as password_file"
            yield ("nats", "servers", number), words


def tls_words(config: TlsConfig) -> str | None:
    """What is required of TLS, for people; None where nothing is."""
    if not config.wanted:
        return None
    words = ["required"]
    if config.ca_file is not None:
        words.append(f"authorities of {config.ca_file}")
    if config.cert_file is not None:
        words.append(f"client certificate {config.cert_file}")
    return ", ".join(words)


def _read(key: str, path: Path, *, secret: bool = True) -> str:
    try:
        # Not waiting for a writer, should it be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unusable(key, f"{path} cannot be read: {error.strerror}") from None
    try:
        kind, mode = stat.S_IFMT(found := os.fstat(descriptor).st_mode), stat.S_IMODE(found)
        if kind != stat.S_IFREG:
            raise Unusable(key, f"{path} is not a file")
        if secret and mode & _OTHERS:
            raise Unusable(key, f"{path} is open to everybody (mode {mode:04o}): chmod o-rw it")
        content = os.read(descriptor, _LARGEST + 1)
    except OSError as error:
        raise Unusable(key, f"{path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST and secret:
        raise Unusable(key, f"{path} is too large to be a secret")
    return content.decode(errors="replace")


def _line(key: str, path: Path) -> str:
    """The one line that the file holds."""
    text = _read(key, path).strip()
    if not text or "\ufffd" in text or len(text.splitlines()) > 1:
        raise Unusable(key, f"{path} must hold one line of text")
    return text


def _creds(path: Path) -> str:
    found = _CREDS.search(_read("creds_file", path))
    if found is None:
        raise Unusable("creds_file", f"{path} holds no user JWT with its seed, as nsc writes them")
    seed = _seed("creds_file", found["seed"])
    # The client looks for a JWT for ever where there is none, and is particular about line ends.
    return (
        f"-----BEGIN NATS USER JWT-----\n{found['jwt']}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def _seed(key: str, seed: str) -> str:
    usable = re.fullmatch("SU[A-Z2-7]{56}", seed) is not None
    if usable:
        try:
            nkeys.from_seed(bytearray(seed.encode()))
        except (nkeys.NkeysError, ValueError):
            usable = False
    if not usable:
        raise Unusable(key, "holds no seed of a user (SU…)")
    return seed
