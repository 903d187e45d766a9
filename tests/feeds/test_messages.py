"""What the exchanges' messages are documented to be."""

import inspect
from types import ModuleType

import msgspec
import pytest

from marketprism.feeds.binance import messages as binance
from marketprism.feeds.deribit import messages as deribit
from marketprism.feeds.okx import messages as okx

MODULES = (binance, okx, deribit)
PARTS = {
    *(binance.LiquidationOrder, binance._Event, binance._Kind),
    *(okx.Arg, okx._Outcome),
}
"""Parts of others, whose sample shows them."""


def messages(module: ModuleType) -> list[type[msgspec.Struct]]:
    """What an exchange says."""
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, msgspec.Struct)
        and each.__module__ == module.__name__
        and each not in PARTS
    ]


SAID = [
    pytest.param(each, id=f"{each.__module__.split('.')[2]}-{each.__name__}")
    for module in MODULES
    for each in messages(module)
]


def sample(kind: type[msgspec.Struct]) -> str:
    """The frame that its docstring shows."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return text[text.index("\n{") :]


@pytest.mark.parametrize("kind", SAID)
def test_the_sample_of_a_message_is_one(kind: type[msgspec.Struct]) -> None:
    """It is read, and every field that a record cannot do without is in it."""
    read = msgspec.json.decode(sample(kind), type=kind)
    assert isinstance(read, kind)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.split(".")[2])
def test_an_exchange_s_messages_link_its_pages(module: ModuleType) -> None:
    """Each one, or the one that it is a row of."""
    linked = [
        kind for kind in messages(module) if "\nhttps://" in inspect.cleandoc(kind.__doc__ or "")
    ]
    rows = {"Symbol", "Liquidation", "VolatilityData", "Page"}
    assert {kind.__name__ for kind in messages(module)} - {kind.__name__ for kind in linked} <= rows
