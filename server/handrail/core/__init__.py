"""The functional core: pure decisions, no clock, no I/O, no randomness."""
