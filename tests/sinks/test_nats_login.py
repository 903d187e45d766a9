"""Logging in to real NATS servers: each way, right and wrong, and TLS on both sides."""

import datetime
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from nats_accounts import Identity, Organisation, secret_file
from patience import PATIENCE

from marketprism.errors import SinkRefused, SinkState
from marketprism.settings.nats import NatsConfig, TlsConfig
from marketprism.sinks.nats import NatsSink
from marketprism.wire import Message

pytestmark = pytest.mark.once

CANARY = "canary-5f1d"


@attrs.define
class Door:
    """A server that wants to know who calls, and a sink that calls it."""

    server: Any
    delivery: Any
    folder: Path
    message: Message

    def serve(self, configuration: str) -> None:
        path = self.folder / "server.conf"
        path.write_text(configuration)
        self.server.start("-c", str(path))

    def secret(self, name: str, text: str) -> Path:
        return secret_file(self.folder / name, text)

    async def opens(self, url: str | None = None, **nats: Any) -> None:
        """A message is delivered."""
        delivery = attrs.evolve(self.delivery)
        delivery.outbox.append([self.message])
        delivery.outbox.close()
        with trio.fail_after(PATIENCE):
            sink = NatsSink(NatsConfig(**nats), [url or self.server.url], delivery.board)
            await sink.run(delivery.outbox)
        assert delivery.board.sink.acknowledged >= 1

    async def stays_shut(
        self, words: str, state: SinkState, url: str | None = None, **nats: Any
    ) -> None:
        """The attempt ends with these words and this state, and no secret in either."""
        delivery = attrs.evolve(self.delivery)
        delivery.outbox.append([self.message])
        sink = NatsSink(NatsConfig(**nats), [url or self.server.url], delivery.board)
        with trio.fail_after(PATIENCE), pytest.raises(SinkRefused, match=words) as refusal:
            await sink.run(delivery.outbox)
        row = delivery.board.sink
        assert (row.state, row.connected, row.reason) == (state, False, str(refusal.value))
        assert CANARY not in f"{refusal.value} {row}"
        assert delivery.board.outbox.held == 1


@pytest.fixture
def door(
    absent_server: Any, delivery: Any, tmp_path: Path, make_message: Callable[..., Message]
) -> Door:
    """See `Door`."""
    return Door(absent_server, delivery, tmp_path, make_message(0))


async def test_a_password_comes_from_a_file_and_is_read_again(door: Door) -> None:
    """A rotated one is taken up by the next attempt of the same sink."""
    door.serve('authorization { user: collector, password: "second" }')
    path = door.secret("password", f"{CANARY}\n")
    refused, state = "authorisation refused", SinkState.UNAUTHORISED
    await door.stays_shut(refused, state, user="collector", password_file=path)
    door.secret("password", "second\n")
    await door.opens(user="collector", password_file=path)
    path.unlink()
    words = rf"nats\.password_file: {path} cannot be read: No such file"
    await door.stays_shut(words, state, user="collector", password_file=path)


async def test_a_password_in_the_url_is_decoded(door: Door) -> None:
    """An @ or a % in it is written as URLs have it."""
    door.serve('authorization { user: collector, password: "p@ss/%" }')
    await door.opens(f"nats://collector:p%40ss%2F%25@127.0.0.1:{door.server.port}")


async def test_a_token_comes_from_a_file_or_the_url(door: Door) -> None:
    """A user without a password in a URL is a token."""
    door.serve('authorization { token: "s3cr3t" }')
    await door.opens(token_file=door.secret("token", "s3cr3t\n"))
    await door.opens(f"nats://s3cr3t@127.0.0.1:{door.server.port}")
    wrong = door.secret("wrong", CANARY)
    await door.stays_shut("authorisation refused", SinkState.UNAUTHORISED, token_file=wrong)


async def test_an_nkey_signs(door: Door) -> None:
    """The seed stays here; that of another user is refused."""
    user = Identity.user()
    door.serve(f"authorization {{ users: [ {{ nkey: {user.public} }} ] }}")
    await door.opens(nkey_seed_file=door.secret("seed", f"{user.seed}\n"))
    other = door.secret("other", Identity.user().seed)
    await door.stays_shut("authorisation refused", SinkState.UNAUTHORISED, nkey_seed_file=other)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
async def test_a_creds_file_vouches_for_us(door: Door, line_end: str) -> None:
    """A user's JWT, signed with its seed; one of another operator is refused."""
    organisation = Organisation()
    door.serve(organisation.configuration())
    text = organisation.creds().replace("\n", line_end)
    await door.opens(creds_file=door.secret("user.creds", text))
    other = door.secret("other.creds", Organisation().creds())
    await door.stays_shut("authorisation refused", SinkState.UNAUTHORISED, creds_file=other)


# TLS.


@functools.cache
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


def written(door: Door, certificate: trustme.LeafCert, name: str) -> tuple[Path, Path]:
    """A certificate and its key as files."""
    chain, key = door.folder / f"{name}.pem", door.folder / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    secret_file(key, certificate.private_key_pem.bytes().decode())
    return chain, key


def trusted(door: Door) -> Path:
    """Our authority as a file."""
    path = door.folder / "authority.pem"
    authority().cert_pem.write_to_path(str(path))
    return path


def with_tls(door: Door, certificate: trustme.LeafCert, more: str = "") -> str:
    """A server's configuration with this certificate."""
    chain, key = written(door, certificate, "server")
    return f'tls {{ cert_file: "{chain}", key_file: "{key}", {more} }}\n'


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_a_server_of_our_own_authority_is_trusted(door: Door, scheme: str) -> None:
    """By the name that was configured, though its address is looked up here."""
    door.serve(with_tls(door, authority().issue_cert("localhost")))
    url = f"{scheme}://localhost:{door.server.port}"
    await door.opens(url, tls=TlsConfig(ca_file=trusted(door)))
    words, state = "local issuer|self-signed", SinkState.UNTRUSTED
    await door.stays_shut(words, state, url)


def expired(host: str) -> trustme.LeafCert:
    """A certificate that was good, once."""
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    return authority().issue_cert(host, not_before=now - 9 * day, not_after=now - day)


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (lambda: authority().issue_cert("other.example"), "Hostname mismatch"),
        (lambda: trustme.CA().issue_cert("localhost"), "self-signed certificate|local issuer"),
        (lambda: expired("localhost"), "has expired"),
    ],
    ids=["wrong host", "unknown authority", "expired"],
)
@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_a_certificate_that_is_not_to_be_trusted_is_refused(
    door: Door, certificate: Callable[[], trustme.LeafCert], words: str, scheme: str
) -> None:
    """Before anything is said of who we are."""
    door.serve(with_tls(door, certificate()) + 'authorization { token: "t" }')
    url = f"{scheme}://localhost:{door.server.port}"
    options: dict[str, Any] = {
        "tls": TlsConfig(ca_file=trusted(door)),
        "token_file": door.secret("token", CANARY),
    }
    words = f"its certificate is not accepted: .*({words})"
    await door.stays_shut(words, SinkState.UNTRUSTED, url, **options)


async def test_with_tls_configured_nothing_is_said_to_a_server_without_it(door: Door) -> None:
    """Whatever its URL says: somebody between us may have taken the TLS away."""
    door.server.start("-DV", "--user", "collector", "--pass", CANARY)
    options: dict[str, Any] = {
        "tls": TlsConfig(ca_file=trusted(door)),
        "user": "collector",
        "password_file": door.secret("password", CANARY),
    }
    await door.stays_shut("does not require TLS, and we do", SinkState.UNTRUSTED, **options)
    assert "[CONNECT" not in door.server.log.read_text()


async def test_a_server_that_wants_our_certificate_gets_it(door: Door) -> None:
    """None, or one of another authority, is refused with words that name the key."""
    more = f'ca_file: "{trusted(door)}", verify: true'
    door.serve(with_tls(door, authority().issue_cert("localhost"), more))
    url, ca = f"tls://localhost:{door.server.port}", trusted(door)
    chain, key = written(door, authority().issue_cert("collector@example.com"), "ours")
    await door.opens(url, tls=TlsConfig(ca, chain, key))
    words, state = r"nats\.tls\.cert_file", SinkState.UNAUTHORISED
    await door.stays_shut(words, state, url, tls=TlsConfig(ca))
    chain, key = written(door, trustme.CA().issue_cert("collector@example.com"), "wrong")
    await door.stays_shut(words, state, url, tls=TlsConfig(ca, chain, key))
