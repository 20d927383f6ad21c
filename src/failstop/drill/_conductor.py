"""The drill itself: the server, the API's process, the clients, and act after act."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from failstop.drill._acts import ACTS, Act, Stage
from failstop.drill._ledger import reconcile
from failstop.drill._report import ActReport, Answers, DrillReport, Moment
from failstop.drill._traffic import CLIENTS, Traffic, fault_of
from failstop.errors import ConfigurationError
from failstop.testing import FaultProxy, PostgresServer

__all__ = ["ACT_NAMES", "Tell", "run_drill"]

Tell = Callable[[Moment], None]

LIMIT = 20.0
"""Seconds within which the API must trip, and recover."""
START = 60.0
"""Seconds within which it must serve."""
ACT_NAMES = [act.name for act in ACTS]
WARM = 40
"""Orders that are accepted before each act and after the last one."""


def run_drill(
    tell: Tell, acts: Sequence[str] = (), *, api: str = "failstop.drill._api", limit: float = LIMIT
) -> DrillReport:
    """Break a server of its own under an API of its own and keep the books.

    Args:
        tell: hears of every moment, when it comes.
        acts: the names of the faults, in their order; every one where none is given.
        api: the module that is the API, run as a program.
        limit: seconds within which the API must trip, and recover.

    Raises:
        ConfigurationError: a name is no fault's.
        RuntimeError: the API did not start, so nothing can be shown.
    """
    chosen = [_act(name) for name in acts] or ACTS
    with PostgresServer() as server, FaultProxy(server) as proxy:
        stage = Stage(server, proxy)
        stage.prepare()
        return asyncio.run(_Conductor(stage, tell, api, limit).run(chosen))


def _act(name: str) -> Act:
    found = next((act for act in ACTS if act.name == name), None)
    if found is None:
        raise ConfigurationError(f"no fault {name!r}; there are {', '.join(ACT_NAMES)}")
    return found


class _Api:
    """The API's process and what it said so far."""

    def __init__(self, process: asyncio.subprocess.Process, limit: float) -> None:
        self._process = process
        self._limit = limit
        self._changed = asyncio.Condition()
        self._said: list[dict[str, Any]] = []
        self._is_over = False

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, module: str, url: str, limit: float) -> AsyncIterator[Self]:
        with tempfile.TemporaryDirectory() as directory:
            store = str(Path(directory, "failstop.db"))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "DATABASE_URL": url, "FAILSTOP_STORE": store},
            )
            api = cls(process, limit)
            listening = asyncio.create_task(api._listen())
            try:
                yield api
            finally:
                await api._stop()
                await listening

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._changed:
                self._said.append({**json.loads(line), "heard_at": time.time()})
                self._changed.notify_all()
        async with self._changed:
            self._is_over = True
            self._changed.notify_all()

    async def _stop(self) -> None:
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


class _Conductor:
    def __init__(self, stage: Stage, tell: Tell, api: str, limit: float) -> None:
        self._stage = stage
        self._tell = tell
        self._api = api
        self._limit = limit
        self._began = time.time()
        self._version: str = stage.server.execute("SHOW server_version")[0][0]

    async def run(self, acts: Sequence[Act]) -> DrillReport:
        async with _Api.start(self._api, self._stage.url, self._limit) as api:
            heard = await api.wait_for("listening", 0.0, within=START)
            if heard is None:
                raise RuntimeError("the API of the drill did not start")
            traffic = Traffic(f"http://127.0.0.1:{heard['port']}")
            self._say(None, f"PostgreSQL {self._version} is up, {CLIENTS} clients send orders")
            reports = await self._run_acts(acts, api, traffic)
        rows = await asyncio.to_thread(self._rows)
        stray = {fault_of(each) for each in traffic.answers if each.status not in (200, 201)}
        return DrillReport(
            acts=reports,
            books=reconcile(traffic.orders, rows),
            stray=sorted(filter(None, stray)),
            server_version=self._version,
            duration=time.time() - self._began,
        )

    async def _run_acts(self, acts: Sequence[Act], api: _Api, traffic: Traffic) -> list[ActReport]:
        reports = []
        async with traffic.run():
            for act in acts:
                await self._warm(traffic)
                reports.append(await self._run_act(act, api, traffic))
            await self._warm(traffic)
        return reports

    async def _warm(self, traffic: Traffic) -> None:
        is_warm = await traffic.wait_for_accepted(WARM, self._limit)
        self._say(None, f"{WARM} orders accepted" if is_warm else "no orders are accepted")

    async def _run_act(self, act: Act, api: _Api, traffic: Traffic) -> ActReport:
        report = ActReport(act.name, act.title, tells=act.tells)
        async with contextlib.AsyncExitStack() as clients:
            fault = ExitStack()
            struck = time.time()
            self._say(act, act.title)
            try:
                await asyncio.to_thread(fault.enter_context, act.fault(self._stage))
                await clients.enter_async_context(traffic.more(act.clients))
                tripped = await self._see_trip(act, api, struck, report)
                await asyncio.sleep(act.lasts)
            finally:
                await asyncio.to_thread(fault.close)
        mended = time.time()
        self._say(act, "the fault is mended")
        recovered = await self._see_recovery(act, api, struck, mended, report)
        report.pages = len(api.said("alert", struck, action="trigger"))
        report.answers = _answers(traffic, struck, tripped, recovered)
        self._say(act, f"answered meanwhile: {report.answers}")
        return report

    async def _see_trip(self, act: Act, api: _Api, struck: float, report: ActReport) -> float:
        tripped = await api.wait_for("tripped", struck)
        if tripped is None:
            return time.time()
        report.trip_after = tripped["occurred_at"] - struck
        report.error_code, report.cause = tripped["code"], tripped["cause"]
        self._say(act, f"tripped: {tripped['code']}, {tripped['cause']}")
        alert = await api.wait_for("alert", struck, action="trigger")
        if alert is not None:
            report.alert = alert["title"]
            self._say(act, f"alert: {alert['title']}")
        if act.then is not None:
            await asyncio.to_thread(act.then, self._stage)
        return float(tripped["heard_at"])  # by now, if not at once, everything is refused

    async def _see_recovery(
        self, act: Act, api: _Api, struck: float, mended: float, report: ActReport
    ) -> float:
        recovered = await api.wait_for("recovered", struck)
        if recovered is None:
            return time.time()
        report.recovered_after = max(0.0, recovered["occurred_at"] - mended)
        self._say(act, f"recovered: {recovered['reason']}")
        report.is_resolved = await api.wait_for("alert", struck, action="resolve") is not None
        return float(recovered["occurred_at"])

    def _say(self, act: Act | None, text: str) -> None:
        self._tell(Moment(time.time() - self._began, act.name if act else None, text))

    def _rows(self) -> list[tuple[str, int]]:
        with self._stage.connect() as connection:
            return connection.execute("SELECT order_id, quantity FROM orders").fetchall()


def _answers(traffic: Traffic, struck: float, tripped: float, recovered: float) -> Answers:
    """Count the failures from the strike on, and every answer from the trip until recovery."""
    found = Answers()
    for answer in traffic.answers:
        is_down = answer.began >= tripped and answer.ended <= recovered
        is_failure = answer.status not in (200, 201) and struck <= answer.ended <= recovered
        if is_down or is_failure:
            found.add(str(answer.details.get("outcome")), fault_of(answer))
    return found
