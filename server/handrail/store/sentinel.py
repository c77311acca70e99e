"""The server that Sentinels name as the master, asked for anew at every connection."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from handrail.store.address import Address, Site
from handrail.store.protocol import StoreDown

ANSWER = 0.3  # seconds one Sentinel has to answer before the next is asked


class Master(Address):
    """Made of the Sentinels at `site`. User, password and TLS of the URL are those of the server; of the Sentinels
    only TLS."""

    backoff = (0.05, 0.2)  # it is not the server that is asked, until there is one

    def __init__(self, site: Site) -> None:
        self.__dict__.update(vars(site.addresses[0]))
        self.service = site.service
        hosts = [(each.host, each.port) for each in site.addresses]
        self._sentinels = Sentinel(hosts, sentinel_kwargs=self._manner())  # type: ignore[no-untyped-call]
        self._site = ",".join(f"{each.host}:{each.port}" for each in site.addresses)

    def _manner(self) -> dict[str, Any]:
        manner: dict[str, Any] = {"socket_timeout": ANSWER, "socket_connect_timeout": ANSWER}
        manner |= {"retry": Retry(NoBackoff(), 0), "protocol": 2}
        if self.has_tls:
            manner |= {"ssl": True, "ssl_ca_certs": self.authorities}
            manner |= {} if self.checked else {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
        return manner

    @property
    def shown(self) -> str:
        return f"redis+sentinel://{self._site}/{self.service}/{self.db}"

    async def dial(self, wire: asyncio.Protocol) -> None:
        try:
            host, port = await self._sentinels.discover_master(self.service)
        except MasterNotFoundError:  # its text shows the insides of every connection that failed
            raise StoreDown(
                f"no Sentinel names a master of {self.service!r}, or none answers without a password"
            ) from None
        except ResponseError:
            raise StoreDown("it is no Sentinel: write their hosts and ports, often 26379") from None
        except RedisError as error:
            raise StoreDown(f"no Sentinel names a master of {self.service!r}: {error}") from None
        finally:
            for client in self._sentinels.sentinels:
                await client.aclose(close_connection_pool=True)
        self.host, self.port = str(host), int(port)
        await super().dial(wire)
