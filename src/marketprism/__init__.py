"""MarketPrism: exact, normalised market data from exchanges to NATS JetStream."""

from importlib.metadata import version

__version__ = version("marketprism")
