"""Deribit: the volatility indices."""

from marketprism.feeds.deribit.derivatives import DeribitDerivatives

__all__ = ["DeribitDerivatives"]
