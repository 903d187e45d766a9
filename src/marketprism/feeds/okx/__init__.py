"""OKX: spot and perpetuals."""

from marketprism.feeds.okx.venues import OkxDerivatives, OkxSpot

__all__ = ["OkxDerivatives", "OkxSpot"]
