"""MarketPrism: exact, normalised market data from exchanges to NATS JetStream."""

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: that takes longer than all else here, and a
    signal that comes meanwhile would not find us ready.
    """
    if name == "__version__":
        from importlib.metadata import version

        return version("marketprism")
    raise AttributeError(name)
