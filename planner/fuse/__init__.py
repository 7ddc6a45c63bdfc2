"""Which operators run together as one kernel."""
