"""Which proxy a URL goes through."""

import pytest

from marketprism.feeds.proxies import Proxies
from marketprism.settings.settings import ProxyConfig

HTTPS, ALL = "http://proxy:3128", "socks5://proxy:1080"
SECURE = ("https://api.binance.com/x", "wss://stream.binance.com:9443/ws")
PLAIN = ("http://api.binance.com/x", "ws://stream.binance.com/ws")


@pytest.mark.parametrize(
    ("config", "secure", "plain"),
    [
        (ProxyConfig(), None, None),
        (ProxyConfig(https=HTTPS), HTTPS, None),
        (ProxyConfig(all=ALL), ALL, ALL),
        (ProxyConfig(https=HTTPS, all=ALL), HTTPS, ALL),
    ],
)
def test_the_scheme_decides(config: ProxyConfig, secure: str | None, plain: str | None) -> None:
    """HTTPS_PROXY is for what is encrypted, websockets too; ALL_PROXY for whatever is left."""
    proxies = Proxies(config)
    assert [proxies.proxy_for(url) for url in SECURE] == [secure] * 2
    assert [proxies.proxy_for(url) for url in PLAIN] == [plain] * 2


@pytest.mark.parametrize(
    ("entry", "host", "direct"),
    [
        ("binance.com", "binance.com", True),
        ("binance.com", "stream.binance.com", True),
        ("binance.com", "notbinance.com", False),
        ("binance.com", "binance.com.evil.org", False),
        (".binance.com", "api.binance.com", True),
        ("*.binance.com", "api.binance.com", True),
        ("BINANCE.com", "Api.Binance.COM", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "[::1]", True),
        ("*", "anything.org", True),
    ],
)
def test_no_proxy_names_hosts_and_domains(entry: str, host: str, direct: bool) -> None:
    """A domain covers what is below it, and nothing that only looks like it."""
    proxies = Proxies(ProxyConfig(all=ALL, no_proxy=("other.org", entry)))
    assert proxies.proxy_for(f"wss://{host}:9443/ws") == (None if direct else ALL)


def test_credentials_in_a_url_are_not_its_host() -> None:
    """Nor is the port."""
    proxies = Proxies(ProxyConfig(all=ALL, no_proxy=("exchange.org",)))
    assert proxies.proxy_for("wss://exchange.org:pass@elsewhere.org:9443/") == ALL
    assert proxies.proxy_for("wss://user:pass@exchange.org:9443/") is None
