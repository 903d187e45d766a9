"""What was accepted and is not yet acknowledged: in memory, then on disk."""
