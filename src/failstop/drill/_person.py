"""The person of the drill: looks at the plan of the API, and resets it with a token.

Never here: when, or whether that was right.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self

import httpx

__all__ = ["Person"]

PAUSE = 0.1
PATIENCE = 30.0
PLAN, RESET = "/admin/plan", "/admin/force-recovery-reset"


class Person:
    """Whoever is woken: asks the API at `url`, entitled by `token`."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=PATIENCE,
            trust_env=False,
            headers={"Authorization": f"Bearer {token}"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._http.aclose()

    async def plan(self) -> dict[str, Any]:
        """Return what a reset would check and release; empty where the API does not say."""
        answer = await self._http.get(PLAN)
        found = answer.json() if answer.status_code == 200 else {}
        return found if isinstance(found, dict) else {}

    async def wait_for_plan(self, words: str, seconds: float) -> list[str]:
        """Return why a reset is refused, as soon as that has `words` in it; else what it said."""
        why: list[str] = []
        limit = time.monotonic() + seconds
        while not any(words in each for each in why) and time.monotonic() < limit:
            why = [str(each) for each in (await self.plan()).get("why", [])]
            await asyncio.sleep(PAUSE)
        return why

    async def reset(self, *, force: bool) -> bool:
        """Reset the epoch that the plan shows; say whether it was taken."""
        epoch = (await self.plan()).get("epoch")
        order = {"actor": "drill", "reason": "the lost orders are known", "epoch": epoch}
        answer = await self._http.post(RESET, json={**order, "force": force})
        return answer.status_code == 200
