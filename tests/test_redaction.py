"""Secrets kept out of what is shown, and all else left readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism.redaction import redact, redacted

CANARY = "canary-5f1d"


@pytest.mark.parametrize(
    "kept",
    [
        "wss://stream.binance.com:9443/stream?streams=btcusdt@trade/ethusdt@depth@100ms",
        "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000",
        "mail a@b and see http://host/",
    ],
)
def test_what_is_no_secret_stays_readable(kept: str) -> None:
    """An @ in a path or query is a stream's name, not a password."""
    assert redact(kept) == kept


SECRETS = st.text("abcXYZ019:@-_.~!$'()*+,;=%&", min_size=1).map(lambda tail: f"{CANARY}{tail}")


@given(secret=SECRETS, before=st.text(), after=st.text())
def test_user_part_of_any_url_is_hidden(secret: str, before: str, after: str) -> None:
    """Whatever stands around a URL, what stands before its host's @ does not survive."""
    text = f"{before} nats://user:{secret}@host:4222/ {after}"
    assert CANARY not in redact(text)
    assert CANARY not in repr(redacted({"a": [text, {text: text}]}))
