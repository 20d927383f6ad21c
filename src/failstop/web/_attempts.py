"""Failed attempts, counted by the address they came from, so that nobody can try for long.

Bounded: a few numbers each for the addresses that failed last. The time is passed in.
"""

from __future__ import annotations

import ipaddress
import math
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Attempts"]

MOST_FAILED = 10
"""Failed attempts of one address after which it waits."""
WINDOW = 60.0
"""Seconds after the first of them until it may try again."""
MOST_CLIENTS = 1024


@dataclass(slots=True)
class _Failed:
    since: float
    count: int = 0


class Attempts:
    """Count failed attempts in this process."""

    def __init__(self) -> None:
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, _Failed] = OrderedDict()
        self._pid = os.getpid()

    def _counting(self) -> threading.Lock:
        """Return the lock; a forked child counts anew, as it may have inherited a held one."""
        if self._pid != os.getpid():
            self._begin_anew()
        return self._lock

    def wait(self, client: str, now: float) -> int | None:
        """Return the seconds that `client` has to wait, None where it may try."""
        with self._counting():
            failed = self._failed.get(_network(client))
            if failed is None or failed.count < MOST_FAILED:
                return None
            left = failed.since + WINDOW - now
            return math.ceil(left) if left > 0 else None

    def fail(self, client: str, now: float) -> None:
        """Count one; the address that failed longest ago is forgotten where there are too many."""
        key = _network(client)
        with self._counting():
            failed = self._failed.pop(key, None)
            if failed is None or now >= failed.since + WINDOW:
                failed = _Failed(now)
            failed.count += 1
            self._failed[key] = failed
            if len(self._failed) > MOST_CLIENTS:
                self._failed.popitem(last=False)

    def __len__(self) -> int:
        return len(self._failed)


def _network(client: str) -> str:
    """Return what one client can choose its address from: of IPv6 a whole network of 64 bits."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return "" if len(client) > 64 else client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
