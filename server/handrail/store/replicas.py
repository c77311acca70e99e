"""Whether writes that wait for a replica (`HANDRAIL_ACK=replicated`) have one to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from handrail.store.lineage import read_info
from handrail.store.pipeline import Pipeline
from handrail.store.protocol import Shortfall, StoreDown

SILENT = 3  # seconds since a replica's last sign of life, one a second, after which nobody waits for it


async def find_shortfall(servers: Sequence[Pipeline]) -> Shortfall | None:
    """What of these servers acknowledges nothing for want of a replica. Those that are away are passed over, unless all
    are: StoreDown."""
    answers = await asyncio.gather(*(server.send("INFO", "replication") for server in servers), return_exceptions=True)
    told = {server: answer for server, answer in zip(servers, answers, strict=True) if isinstance(answer, bytes)}
    if not told:
        raise next((each for each in answers if isinstance(each, BaseException)), StoreDown("no server answers"))
    alone = [server.address.shown for server, answer in told.items() if not _is_followed(read_info(answer))]
    if not alone:
        return None
    what = f"no replica keeps up with {', '.join(alone)}"
    text = f"{what}, and nothing is acknowledged without one (HANDRAIL_ACK=replicated)"
    return Shortfall(text, whole=len(alone) == len(told))


def _is_followed(facts: dict[str, str]) -> bool:
    return any(_keeps_up(value) for name, value in facts.items() if name.startswith("slave") and name[5:].isdecimal())


def _keeps_up(replica: str) -> bool:
    """`replica` as INFO has it: ip=…,port=…,state=online,offset=…,lag=0."""
    said = dict(each.partition("=")[::2] for each in replica.split(","))
    lag = said.get("lag", "")
    return said.get("state") == "online" and lag.isdecimal() and int(lag) <= SILENT
