"""Files that hold secrets: what is wrong with them is said at the start, never what is in them."""

import os
from pathlib import Path

import pytest
import trustme
from nats_accounts import Identity, Organisation, creds_text, secret_file

from marketprism.cli.commands import main
from marketprism.errors import ConfigError
from marketprism.feeds import OFFERS
from marketprism.settings import config
from marketprism.settings.config import Config

CANARY = "canary-5f1d"
SPOT = "exchanges: {binance_spot: {symbols: [BTC-USDT]}}\n"
KEYS = ["password_file", "token_file", "creds_file", "nkey_seed_file"]


def load(folder: Path, nats: str = "", **environ: str) -> Config:
    """A configuration with this section `nats`."""
    path = folder / "main.yaml"
    path.write_text(SPOT + (f"nats: {{{nats}}}\n" if nats else ""))
    return config.load(path=path, environ=environ, directory=folder, venues=OFFERS)


def problems(folder: Path, nats: str = "", **environ: str) -> list[str]:
    """What is wrong with it; no secret is ever in that."""
    with pytest.raises(ConfigError) as caught:
        load(folder, nats, **environ)
    assert CANARY not in repr(caught.value)
    return caught.value.problems


def says(key: str, value: str) -> str:
    """The key, and the user that a password needs."""
    return f"{key}: {value}" + (", user: me" if key == "password_file" else "")


@pytest.mark.parametrize("key", KEYS)
def test_a_secret_file_must_be_there_readable_and_ours(tmp_path: Path, key: str) -> None:
    """One line that names the key, for each way to be unusable."""
    path = tmp_path / "secret"
    words = says(key, "secret")
    assert problems(tmp_path, words) == [
        f"nats.{key}: {path} cannot be read: No such file or directory"
    ]
    path.mkdir()
    assert problems(tmp_path, words) == [f"nats.{key}: {path} is not a file"]
    path.rmdir()
    os.mkfifo(path)
    assert problems(tmp_path, words) == [f"nats.{key}: {path} is not a file"]
    path.unlink()
    secret_file(path, CANARY).chmod(0o644)
    assert problems(tmp_path, words) == [
        f"nats.{key}: {path} is open to everybody (mode 0644): chmod o-rw it"
    ]
    path.chmod(0o640)
    path.write_text(CANARY * 10_000)
    assert problems(tmp_path, words) == [f"nats.{key}: {path} is too large to be a secret"]


@pytest.mark.parametrize("text", ["", " \n", f"{CANARY}\n{CANARY}", "\udcff"])
@pytest.mark.parametrize("key", ["password_file", "token_file", "nkey_seed_file"])
def test_a_secret_is_one_line(tmp_path: Path, key: str, text: str) -> None:
    """Empty, two, or bytes that are no text."""
    path = secret_file(tmp_path / "secret", "")
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert problems(tmp_path, says(key, "secret")) == [
        f"nats.{key}: {path} must hold one line of text"
    ]


@pytest.mark.parametrize(
    "seed",
    [CANARY, "SU" + "A" * 55, "SU" + "a" * 56, Identity.account().seed, "SU" + "1" * 56],
    ids=["none", "short", "lower case", "an account's", "no base32"],
)
def test_a_seed_is_that_of_a_user(tmp_path: Path, seed: str) -> None:
    """In its own file, or in a creds file."""
    secret_file(tmp_path / "seed", seed)
    secret_file(tmp_path / "creds", creds_text(f"eyJ.{CANARY}", seed))
    reason = "holds no seed of a user (SU…)"
    assert problems(tmp_path, "nkey_seed_file: seed") == [f"nats.nkey_seed_file: {reason}"]
    assert problems(tmp_path, "creds_file: creds") == [f"nats.creds_file: {reason}"]


def test_a_creds_file_has_both_of_its_parts(tmp_path: Path) -> None:
    """A JWT alone would be looked through for ever by the client."""
    path = secret_file(tmp_path / "creds", creds_text(CANARY, "").partition("*")[0])
    words = f"nats.creds_file: {path} holds no user JWT with its seed, as nsc writes them"
    assert problems(tmp_path, "creds_file: creds") == [words]


def test_a_problem_is_named_for_the_variable_that_said_it(tmp_path: Path) -> None:
    """People look for it there."""
    [problem] = problems(tmp_path, NATS_CREDS="absent")
    assert problem.startswith("NATS_CREDS: ")
    [problem] = problems(tmp_path, NATS_CA="absent")
    assert problem.startswith("NATS_CA: ")


def test_two_ways_to_log_in_are_a_contradiction(tmp_path: Path) -> None:
    """Which of them was meant? None is sent."""
    secret_file(tmp_path / "secret", CANARY)
    [problem] = problems(tmp_path, "token_file: secret", NATS_TOKEN=CANARY)
    assert problem == "nats: names more than one way to log in: token, token_file"
    [problem] = problems(
        tmp_path,
        "creds_file: secret, nkey_seed_file: secret",
        NATS_URL=f"nats://{CANARY}@host",
        NATS_USER="me",
        NATS_PASSWORD=CANARY,
    )
    for way in ("a user or token in a server's URL", "user", "creds_file", "nkey_seed_file"):
        assert way in problem
    [problem] = problems(tmp_path, NATS_USER="me")
    assert problem == "nats: user needs a password: NATS_PASSWORD, or password_file"
    [problem] = problems(tmp_path, NATS_PASSWORD=CANARY)
    assert problem == "nats: a password needs a user"
    [problem] = problems(tmp_path, "user: me, password_file: secret", NATS_PASSWORD=CANARY)
    assert "NATS_PASSWORD and in password_file" in problem


def test_no_secret_stands_in_the_main_file(tmp_path: Path) -> None:
    """It is copied, mounted and committed: the line says where the secret goes."""
    found = problems(tmp_path, f"user: me, password: {CANARY}")
    assert found == [
        "nats.password: must not stand in this file: set NATS_PASSWORD, or password_file"
    ]
    [problem] = problems(tmp_path, f"token: {CANARY}")
    assert problem.startswith("nats.token: must not stand in this file: set NATS_TOKEN")
    [problem] = problems(tmp_path, f"servers: ['nats://host', 'nats://me:{CANARY}@host']")
    assert problem.startswith("nats.servers[1]: must not hold a password or token: set NATS_URL")


def test_variables_say_it_all(tmp_path: Path) -> None:
    """Each reaches its key, and none of the secrets is in what is shown of it."""
    loaded = load(tmp_path, NATS_USER="me", NATS_PASSWORD=CANARY).nats
    assert loaded.user == "me"
    assert loaded.password is not None
    assert loaded.password.text == CANARY
    assert CANARY not in f"{loaded!r} {loaded}"
    loaded = load(tmp_path, NATS_TOKEN=CANARY).nats
    assert loaded.token is not None
    assert CANARY not in f"{loaded!r} {loaded.token}"
    seed = secret_file(tmp_path / "seed", Identity.user().seed)
    assert load(tmp_path, NATS_NKEY="seed").nats.nkey_seed_file == seed
    creds = secret_file(tmp_path / "creds", Organisation().creds())
    assert load(tmp_path, NATS_CREDS="creds").nats.creds_file == creds
    secret = secret_file(tmp_path / "secret", CANARY)
    assert load(tmp_path, NATS_TOKEN_FILE="secret").nats.token_file == secret
    loaded = load(tmp_path, NATS_USER="me", NATS_PASSWORD_FILE="secret").nats
    assert loaded.password_file == secret


# TLS.


def certificate(folder: Path, name: str) -> None:
    """A certificate and its key, as `<name>.pem` and `<name>.key`; the authority in `ca.pem`."""
    authority = trustme.CA()
    leaf = authority.issue_cert("collector@example.com")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    secret_file(folder / f"{name}.key", leaf.private_key_pem.bytes().decode())


OURS = "cert_file: ours.pem, key_file: ours.key"


def test_certificates_are_read_at_the_start(tmp_path: Path) -> None:
    """What cannot be used is said before anything is dialled."""
    certificate(tmp_path, "ours")
    loaded = load(tmp_path, f"tls: {{ca_file: ca.pem, {OURS}}}").nats.tls
    assert loaded.wanted
    assert loaded.ca_file == tmp_path / "ca.pem"
    (tmp_path / "junk").write_text("junk")
    for section, words in {
        "ca_file: absent": "nats.tls.ca_file: {}/absent cannot be read: No such file or directory",
        "ca_file: junk": "nats.tls.ca_file: holds no certificate (PEM)",
        "cert_file: ours.pem": "nats.tls: cert_file and key_file need each other",
        "cert_file: junk, key_file: ours.key": "nats.tls: cannot be used: cert_file must be a "
        "certificate, key_file its key, not encrypted",
    }.items():
        assert problems(tmp_path, f"tls: {{{section}}}") == [words.format(tmp_path)]


def test_a_key_belongs_to_its_certificate_and_to_us(tmp_path: Path) -> None:
    """Another's, one that everybody reads, and one that would ask for a passphrase."""
    certificate(tmp_path, "other")
    certificate(tmp_path, "ours")
    [problem] = problems(tmp_path, "tls: {cert_file: ours.pem, key_file: other.key}")
    assert problem == "nats.tls.key_file: is not the key of tls.cert_file"
    key = tmp_path / "ours.key"
    key.chmod(0o604)
    [problem] = problems(tmp_path, f"tls: {{{OURS}}}")
    assert problem.startswith(f"nats.tls.key_file: {key} is open to everybody")
    secret_file(
        key,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhZTv9kKZLUKwICCAAw\n"
        "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEEJH2yn6RrFrEHBvDfSqMSQEgZBZ\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    [problem] = problems(tmp_path, f"tls: {{{OURS}}}")
    assert "not encrypted" in problem


# What is printed.


def test_check_names_the_way_and_never_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who, from where, and what is required of TLS."""
    monkeypatch.chdir(tmp_path)
    certificate(tmp_path, "ours")
    load(tmp_path, f"tls: {{ca_file: ca.pem, {OURS}}}")
    monkeypatch.setenv("NATS_URL", "nats://nats.test:4222")
    monkeypatch.setenv("NATS_USER", "me")
    monkeypatch.setenv("NATS_PASSWORD", CANARY)
    assert main(["check", "--config", "main.yaml"]) == 0
    said = capsys.readouterr().out
    assert "sink: nats://nats.test:4222, stream MARKET_DATA\n" in said
    assert "  login       user me, password from NATS_PASSWORD\n" in said
    assert f"  TLS         required, authorities of {tmp_path}/ca.pem" in said
    assert CANARY not in said


def test_what_cannot_be_used_exits_2_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the start of a run as in a check."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main.yaml").write_text(SPOT + "nats: {creds_file: absent}\n")
    for command in ("run", "check"):
        assert main([command, "--config", "main.yaml"]) == 2
        said = capsys.readouterr()
        assert said.err.splitlines() == [
            f"marketprism: nats.creds_file: {tmp_path}/absent cannot be read: "
            "No such file or directory"
        ]
