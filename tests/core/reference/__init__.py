"""A slow, obvious evaluator of the rule language, written from docs/rules.md alone: it shares no code with the engine.

The whole history of one user goes in, what was decided and what was held back comes out. It keeps what happened, not
what follows from it: at every instant at which something could become true it looks through everything anew.
"""
