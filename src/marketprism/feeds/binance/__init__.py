"""Binance: spot."""

from marketprism.feeds.binance.spot import BinanceSpot

__all__ = ["BinanceSpot"]
