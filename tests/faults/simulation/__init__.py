"""A seeded simulation of several server processes, their clients and their store, in virtual time.

What runs is the server's own code, down to the bytes it writes to its store, and a real Valkey that runs the real
scripts. What is simulated is time, the network on both sides, browsers, the death and the sleep of processes, and loss
of data. See `world.py` for what happens in one run, `oracle.py` for what must hold.
"""
