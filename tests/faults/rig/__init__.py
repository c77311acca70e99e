"""Faults done to real servers and stores under a load of real pages, and what must hold all the same."""
