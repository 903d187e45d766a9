"""Where each stream stood when this process began, by what the stream in NATS says."""
