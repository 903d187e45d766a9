"""From the feeds to the outbox: the channel, and the pump at its far end."""
