"""Binance: spot, and USD-M perpetuals."""

from marketprism.feeds.binance.derivatives import BinanceDerivatives
from marketprism.feeds.binance.spot import BinanceSpot

__all__ = ["BinanceDerivatives", "BinanceSpot"]
