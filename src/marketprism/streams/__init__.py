"""What is asked for, and how far it is known: a stream, whatever happens to connections. Pure."""
