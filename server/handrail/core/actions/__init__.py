"""Kinds of `then`: one file each, where the YAML shape and its meaning stand together, joined here.

An action runs once its trigger has fired and passed every cap. `run` raises TemplateFault when a text cannot be
rendered; that costs this action only.
"""

from __future__ import annotations

from handrail.core.actions.content import ContentThen, FillSlot
from handrail.core.actions.emit import EmitEvent, EmitThen
from handrail.core.actions.flow import ChooseFlow, FlowThen
from handrail.core.actions.prompt import PromptThen, ShowPrompt
from handrail.core.actions.set import SetThen, SetTraits
from handrail.core.actions.webhook import CallWebhook, WebhookThen
from handrail.core.actions.withdraw import WithdrawPrompt, WithdrawThen

Action = CallWebhook | ChooseFlow | EmitEvent | FillSlot | SetTraits | ShowPrompt | WithdrawPrompt
Then = ContentThen | EmitThen | FlowThen | PromptThen | SetThen | WebhookThen | WithdrawThen
THENS: dict[str, type[Then]] = {
    "prompt": PromptThen,
    "content": ContentThen,
    "flow": FlowThen,
    "webhook": WebhookThen,
    "set": SetThen,
    "emit": EmitThen,
    "withdraw": WithdrawThen,
}

__all__ = ["THENS", "Action", "CallWebhook", "PromptThen", "ShowPrompt", "Then", "WithdrawPrompt", "reaches_user"]


def reaches_user(action: Action) -> bool:
    """Whether the user may come to see something of it: what those held out are spared. Any webhook may lead there."""
    if isinstance(action, FillSlot):
        return action.message is not None
    return isinstance(action, CallWebhook | ChooseFlow | ShowPrompt)
