"""The API of the drill as a process of its own, and what it said so far.

Never here: what it must say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from failstop.drill._stage import Stage

__all__ = ["Program"]


class Program:
    """The API's process and what it said so far."""

    def __init__(self, process: asyncio.subprocess.Process, limit: float) -> None:
        self._process = process
        self._limit = limit
        self._changed = asyncio.Condition()
        self._said: list[dict[str, Any]] = []
        self._is_over = False

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls, module: str, stage: Stage, limit: float, token: str
    ) -> AsyncIterator[Self]:
        """Run the API until the block ends; `token` entitles a person."""
        with tempfile.TemporaryDirectory() as directory:
            store = str(Path(directory, "failstop.db"))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={
                    **os.environ,
                    **stage.environment(),
                    "FAILSTOP_STORE": store,
                    "FAILSTOP_DRILL_TOKEN": token,
                },
            )
            api = cls(process, limit)
            listening = asyncio.create_task(api._listen())
            try:
                yield api
            finally:
                await api.stop()
                await listening
                stage.note_store(Path(store))

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._changed:
                self._said.append({**json.loads(line), "heard_at": time.time()})
                self._changed.notify_all()
        async with self._changed:
            self._is_over = True
            self._changed.notify_all()

    async def stop(self) -> None:
        """End it, in the time that it has."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), self._limit)
        except TimeoutError:
            self._process.kill()

    def said(self, what: str, since: float, **facts: str) -> list[dict[str, Any]]:
        """Return what it said of `what` from `since` on, as the wall clock counts."""
        return [
            each
            for each in self._said
            if each["what"] == what
            and each.get("occurred_at", since) >= since
            and all(each.get(name) == value for name, value in facts.items())
        ]

    async def wait_for(
        self, what: str, since: float, *, within: float | None = None, **facts: str
    ) -> dict[str, Any] | None:
        """Return the first thing it says of `what`, None where it does not in time, or ended."""

        def is_settled() -> bool:
            return self._is_over or bool(self.said(what, since, **facts))

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within or self._limit), self._changed:
                await self._changed.wait_for(is_settled)
        return next(iter(self.said(what, since, **facts)), None)
