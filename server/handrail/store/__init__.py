"""Where decisions become durable: the contract, its two implementations, and the embedded server."""

from handrail.store.embedded import Embedded, launch
from handrail.store.memory import MemoryStore, Shelf
from handrail.store.protocol import Bell, BreakerOpen, Commit, CorruptState, Job, Store, StoreDown, StoreUnusable
from handrail.store.redis import RedisStore

__all__ = [
    "Bell",
    "BreakerOpen",
    "Commit",
    "CorruptState",
    "Embedded",
    "Job",
    "MemoryStore",
    "RedisStore",
    "Shelf",
    "Store",
    "StoreDown",
    "StoreUnusable",
    "launch",
]
