"""How long tests wait for what must come.

A test waits for an event or an order, never for a time: the machine may be busy with other things.
This only ends the wait for what never comes, before the run is given up as hanging.
"""

PATIENCE = 90.0
"""Seconds."""
