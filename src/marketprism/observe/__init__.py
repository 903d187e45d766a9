"""What people and probes see: health, status, metrics, logs, and what holds the memory."""
