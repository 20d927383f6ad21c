"""The drill itself: the stage, the API's process, the clients, and act after act."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from failstop.drill._acts import Act, choose
from failstop.drill._ledger import reconcile
from failstop.drill._person import Person
from failstop.drill._program import Program
from failstop.drill._report import ActReport, Answers, DrillReport, Moment
from failstop.drill._stage import Needs, Stage, own_stage
from failstop.drill._staging import staging
from failstop.drill._traffic import CLIENTS, Traffic, fault_of
from failstop.errors import ConfigurationError

__all__ = ["Tell", "run_drill"]

Tell = Callable[[Moment], None]

LIMIT = 20.0
"""Seconds within which the API must trip, and recover."""
START = 60.0
"""Seconds within which it must serve."""
WAIT = 2.0
"""Seconds in which it must not recover where a person is needed; else it would have, by then."""
LOUD = "drill: reset by FORCE, nothing is proven"
"""What is told to everybody when a person has overruled the checks."""
WARM = 40
"""Orders that are accepted before each act and after the last one."""


def run_drill(
    tell: Tell,
    acts: Sequence[str] = (),
    *,
    url: str | None = None,
    api: str = "failstop.drill._api",
    limit: float = LIMIT,
) -> DrillReport:
    """Break a database under an API of the drill's own and keep the books.

    Args:
        tell: hears of every moment, when it comes.
        acts: the names of the faults, in their order; every one where none is given.
        url: a database for staging, which is struck through the network to it only, and left as it
            was; a server of the drill's own where it is None.
        api: the module that is the API, run as a program.
        limit: seconds within which the API must trip, and recover.

    Raises:
        ConfigurationError: a name is no fault's, or the database at `url` cannot be used.
        CriticalDatabaseError: the database at `url` does not answer.
        RuntimeError: the API did not start, so nothing can be shown.
    """
    choose(acts, frozenset(Needs))  # a word that is wrong needs no server to be seen
    with own_stage() if url is None else staging(url) as stage:
        chosen, left_out = choose(acts, stage.offers)
        report = asyncio.run(_Conductor(stage, tell, api, limit).run(chosen))
    report.left_out = left_out
    report.left_behind = stage.left_behind
    return report


class _Conductor:
    def __init__(self, stage: Stage, tell: Tell, api: str, limit: float) -> None:
        self._stage = stage
        self._tell = tell
        self._api = api
        self._limit = limit
        self._began = time.time()
        self._version = stage.version()
        self._token = secrets.token_urlsafe(32)

    async def run(self, acts: Sequence[Act]) -> DrillReport:
        async with Program.start(self._api, self._stage, self._limit, self._token) as api:
            heard = await api.wait_for("listening", 0.0, within=START)
            if heard is None:
                raise RuntimeError("the API of the drill did not start")
            url = f"http://127.0.0.1:{heard['port']}"
            traffic = Traffic(url, self._stage.prefix)
            self._say(None, f"PostgreSQL {self._version} is up, {CLIENTS} clients send orders")
            async with Person(url, self._token) as self._person:
                reports = await self._run_acts(acts, api, traffic)
        rows = await asyncio.to_thread(self._stage.rows)
        left = await asyncio.to_thread(self._stage.left_rows)
        stray = {fault_of(each) for each in traffic.answers if each.status not in (200, 201)}
        return DrillReport(
            acts=reports,
            books=reconcile(traffic.orders, rows, left),
            stray=sorted(filter(None, stray)),
            server_version=self._version,
            duration=time.time() - self._began,
        )

    async def _run_acts(
        self, acts: Sequence[Act], api: Program, traffic: Traffic
    ) -> list[ActReport]:
        reports: list[ActReport] = []
        async with traffic.run():
            for act in acts:
                if not await self._warm(traffic) and not reports:
                    raise ConfigurationError(
                        "the API of the drill takes no orders on this database; failstop doctor "
                        "may show why"
                    )
                reports.append(await self._run_act(act, api, traffic))
            await self._warm(traffic)
        return reports

    async def _warm(self, traffic: Traffic) -> bool:
        is_warm = await traffic.wait_for_accepted(WARM, self._limit)
        self._say(None, f"{WARM} orders accepted" if is_warm else "no orders are accepted")
        return is_warm

    async def _run_act(self, act: Act, api: Program, traffic: Traffic) -> ActReport:
        report = ActReport(act.name, act.title, tells=act.tells, waits=act.waits)
        if act.prepare is not None:
            await asyncio.to_thread(act.prepare, self._stage)
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
        if act.waits is not None:
            await self._see_waiting(act, act.waits, api, struck, report)
        recovered = await self._see_recovery(act, api, struck, mended, report)
        triggers = api.said("alert", struck, action="trigger")
        report.notes = [str(each["title"]) for each in triggers if _is_note(each)]
        report.pages = len(triggers) - len(report.notes)
        report.answers = _answers(traffic, struck, tripped, recovered)
        self._say(act, f"answered meanwhile: {report.answers}")
        return report

    async def _see_trip(self, act: Act, api: Program, struck: float, report: ActReport) -> float:
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

    async def _see_waiting(
        self, act: Act, words: str, api: Program, struck: float, report: ActReport
    ) -> None:
        """See that it waits for a person and says why; then reset it as one."""
        report.why = await self._person.wait_for_plan(words, self._limit)
        for sentence in report.why:
            self._say(act, f"the plan: {sentence}")
        by_itself = await api.wait_for("recovered", struck, within=WAIT)
        is_taken = by_itself is None and await self._person.reset(force=False)
        report.is_held = by_itself is None and not is_taken
        if report.is_held:
            self._say(act, "a reset without force was refused; a person resets it with force")
            await self._person.reset(force=True)
            await api.wait_for("alert", struck, title=LOUD)

    async def _see_recovery(
        self, act: Act, api: Program, struck: float, mended: float, report: ActReport
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


def _is_note(alert: dict[str, Any]) -> bool:
    """Say whether an alert belongs to no incident."""
    return str(alert["incident"]).startswith("note-")


def _answers(traffic: Traffic, struck: float, tripped: float, recovered: float) -> Answers:
    """Count the failures from the strike on, and every answer from the trip until recovery."""
    found = Answers()
    for answer in traffic.answers:
        is_down = answer.began >= tripped and answer.ended <= recovered
        is_failure = answer.status not in (200, 201) and struck <= answer.ended <= recovered
        if is_down or is_failure:
            found.add(str(answer.details.get("outcome")), fault_of(answer))
    return found
