"""Gaps on their way out: their ids, what is owed as one, and the one place that tells them."""
