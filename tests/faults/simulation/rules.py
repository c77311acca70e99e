"""The rules that simulated users live by: few, so that deciding is quick, with something of every kind of wait."""

from __future__ import annotations

from handrail.core.program import Program
from handrail.core.rules import load

GAP = 1_000  # ms between two prompts
LATER = 3_000  # ms of the delay

RULES = f"""
policy: default
session: {{idle: 8s}}
prompts: {{gap: {GAP // 1000}s, limit: 8 per 24h}}
---
trigger: first
when: {{event: puzzled}}
then: [{{content: {{slot: side, message: hello}}}}, {{webhook: crm}}]
limit: once
---
trigger: offer
when: {{event: puzzled}}
then: [{{prompt: help}}]
---
trigger: later
when: {{delay: {{after: {{event: begun}}, for: {LATER // 1000}s}}}}
then: [{{prompt: nudge}}, {{content: {{slot: top, message: hello}}}}]
cancel_on: [{{event: cancelled}}]
---
trigger: missing
when: {{absence: {{after: {{event: opened}}, of: {{event: cancelled}}, for: 2s}}}}
then: [{{content: {{slot: top, message: missed}}}}]
---
trigger: still
when: {{idle: 4s}}
then: [{{prompt: nudge}}]
limit: 2 per session
---
trigger: ordered
when: {{event: ordered}}
then: [{{webhook: crm}}, {{content: {{slot: top, message: thanks}}}}]
---
trigger: often
when: {{count: {{event: ordered, at_least: 3, within: 10s}}}}
then: [{{flow: tour/short}}]
cooldown: 5s
---
message: hello
kind: inline
title: "Hello {{{{ user.id }}}}"
---
message: missed
kind: inline
title: Missed
---
message: thanks
kind: inline
title: "Thanks for {{{{ event.properties.n }}}}"
---
message: help
kind: modal
title: "{{{{ user.id }}}}, need a hand?"
actions: [{{label: Later, do: {{snooze: 2s}}}}, {{label: No, do: dismiss}}]
expires: 5s
---
message: nudge
kind: toast
title: Go on
---
flow: tour
steps:
  - {{id: one, component: card}}
  - {{id: two, component: card}}
variants:
  - {{id: short, if: user.sessions > 1000, steps: [two]}}
---
webhook: crm
url: http://127.0.0.1:9/crm
body: {{user: "{{{{ user.id }}}}", n: "{{{{ event.properties.n }}}}"}}
"""


def read_rules() -> Program:
    loaded = load({"rules.yaml": RULES}, {})
    assert loaded.program is not None, loaded.problems
    return loaded.program
