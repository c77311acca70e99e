"""`{webhook: ID, data: {…}}`: POST to a webhook of the rule files, at least once, one message id over all tries."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from pydantic import Field

from handrail.core.compiler import Compiler
from handrail.core.scope import Occurrence, iso
from handrail.core.source import Shape
from handrail.core.templates import Nested
from handrail.core.turn import Turn


class WebhookThen(Shape):
    webhook: str
    data: dict[str, Any] = Field(default_factory=dict)

    def action(self, compiler: Compiler) -> CallWebhook:
        compiler.refer("webhook", self.webhook, compiler.names.webhooks, "webhook")
        return CallWebhook(self.webhook, self.data, compiler.value_template(self.data, "data"))


class CallWebhook(Struct, frozen=True):
    webhook: str
    written: dict[str, Any]
    data: Nested

    def run(self, turn: Turn, trigger: str, occurrence: Occurrence) -> None:
        """The body is the webhook's own, rendered, with `data` beside it; a webhook without a body gets the default
        one: type, timestamp and data with the user's id and the trigger."""
        scope = turn.scope(occurrence)
        data = self.data.render(scope.context(self.data.reads))
        body = turn.program.bodies.get(self.webhook)
        if body is None:
            sent: Any = {
                "type": f"handrail.{self.webhook}",
                "timestamp": iso(turn.now),
                "data": {"user_id": turn.state.user, "trigger": trigger, **data},
            }
        else:
            sent = body.render({**scope.context(body.reads), "data": data})
            if data and isinstance(sent, dict):
                sent = {**sent, "data": data}
        turn.call(self.webhook, sent, trigger)
        if turn.program.webhooks[self.webhook].channel == "email":
            turn.remember_email()
        turn.decide(trigger, "webhook", self.webhook)
