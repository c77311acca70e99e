"""`python -m tests.faults`: every live fault, a line of figures each, and a table."""

import runpy

runpy.run_module("tests.faults.rig", run_name="__main__", alter_sys=True)
