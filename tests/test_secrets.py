"""No secret is shown anywhere: the real program, with one in every place it can have, against peers
that refuse it, at its most talkative.
"""

import base64
import os
import re
import signal
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import loopback
import pytest
import trio
import trustme
import yaml
from forms import some
from nats_accounts import Identity, Organisation, creds_text, secret_file
from nats_server import Server
from patience import PATIENCE
from peers import LOCAL, serving, until_blank
from ports import free_port

pytestmark = pytest.mark.once

CANARY = "canary-5f1d/9@x"
SEED = Identity.user().seed
JWT = re.search(r"eyJ\S+", Organisation().creds())
assert JWT is not None
LEAF = trustme.CA().issue_cert("collector@example.com")
PEM = LEAF.private_key_pem.bytes().decode()
SECRETS = [
    CANARY,
    quote(CANARY, safe=""),
    "5f1d",
    base64.b64encode(f"me:{CANARY}".encode()).decode().rstrip("="),
    SEED,
    JWT[0].split(".")[1],
    *PEM.splitlines()[1:3],
]
"""In every spelling that could leak."""

WAYS: dict[str, dict[str, str]] = {
    "url": {"NATS_URL": f"nats://me:{quote(CANARY, safe='')}@{{}}"},
    "token in the url": {"NATS_URL": f"nats://{quote(CANARY, safe='')}@{{}}"},
    "password": {"NATS_USER": "me", "NATS_PASSWORD": CANARY},
    "token": {"NATS_TOKEN": CANARY},
    "password file": {"NATS_USER": "me", "NATS_PASSWORD_FILE": "line"},
    "token file": {"NATS_TOKEN_FILE": "line"},
    "creds": {"NATS_CREDS": "creds"},
    "nkey": {"NATS_NKEY": "seed"},
    "certificate": {"NATS_CERT": "cert.pem", "NATS_KEY": "cert.key"},
}


def files(folder: Path) -> None:
    """What the ways refer to, and exchanges with passwords in their URLs."""
    secret_file(folder / "line", CANARY)
    secret_file(folder / "seed", SEED)
    assert JWT is not None
    secret_file(folder / "creds", creds_text(JWT[0], SEED))
    LEAF.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    secret_file(folder / "cert.key", PEM)
    password = f"me:{quote(CANARY, safe='')}"
    venues = {}
    for name, base, stream in [
        ("binance_spot", "https", "wss"),
        ("okx_spot", "http", "ws"),
    ]:
        api = {
            "base_url": f"{base}://{password}@{name.partition('_')[0]}.invalid",
            "ws_url": f"{stream}://{password}@{name.partition('_')[0]}.invalid",
        }
        venues[name] = {"symbols": ["BTC-USDT"], "api": api}
    (folder / "main.yaml").write_text(yaml.safe_dump({"exchanges": venues}))


async def refuse(stream: trio.abc.Stream) -> None:
    """A proxy that wants to be told something else."""
    await until_blank(stream)
    await stream.send_all(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    "way", some(WAYS, "token in the url", "token", "password file", "token file", "nkey")
)
async def test_no_secret_is_in_what_is_logged_served_or_printed(
    tmp_path: Path, absent_server: Server, way: str
) -> None:
    """At DEBUG: standard error, the log file, every page, the words at the end, and `check`."""
    files(tmp_path)
    absent_server.start("--user", "other", "--pass", "other")
    health, metrics = free_port(), free_port()
    async with serving(refuse) as proxy:
        address = f"http://me:{quote(CANARY, safe='')}@{LOCAL}:{proxy}"
        environ = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
        environ |= {
            "HEALTH_CHECK_PORT": str(health),
            "METRICS_PORT": str(metrics),
            "NATS_URL": absent_server.url,
            "HTTPS_PROXY": address,
            "ALL_PROXY": address,
            "LOG_LEVEL": "DEBUG",
        }
        environ |= {
            name: value.replace("{}", f"{LOCAL}:{absent_server.port}")
            for name, value in WAYS[way].items()
        }
        command = [sys.executable, "-X", "dev", "-m", "marketprism"]
        options = ["--config", "main.yaml"]
        check = await trio.run_process(
            [*command, "check", *options], env=environ, cwd=tmp_path, capture_stdout=True
        )
        shown = [check.stdout.decode()]
        with (tmp_path / "said").open("wb") as said:
            process = await trio.lowlevel.open_process(
                [*command, "run", *options], env=environ, cwd=tmp_path, stderr=said, stdout=said
            )
            shown += await pages(health, metrics)
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(PATIENCE):
                await process.wait()
    shown.append((tmp_path / "said").read_text())
    shown.append((tmp_path / "logs/collector.log").read_text())
    everything = "\n".join(shown)
    for secret in SECRETS:
        assert secret not in everything
    # All of it was used: the peers were asked, and refused.
    assert "nats://" in shown[0]
    words = "authori[sz]ation|does not require TLS"
    assert re.search(words, everything)
    assert "the proxy failed (407" in everything
    assert '"level": "DEBUG"' in everything


async def pages(health: int, metrics: int) -> list[str]:
    """All pages, once the peers have refused."""
    addresses = [f"http://{LOCAL}:{health}/{path}" for path in ("health", "status", "connections")]
    addresses.append(f"http://{LOCAL}:{metrics}/metrics")
    async with loopback.client() as client:
        with trio.fail_after(PATIENCE):
            while True:
                await trio.sleep(0.2)
                try:
                    found = [(await client.get(address)).text for address in addresses]
                except httpx.TransportError:
                    continue
                if "407" in found[0] and re.search("unauthorised|untrusted", found[0]):
                    return found
