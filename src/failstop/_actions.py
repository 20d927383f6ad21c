"""The safety actions: what is done at once when an incident opens, once for the host.

Each runs on a thread of its own, which is there only while it runs: one that raises, hangs or is
slow stops none and delays none, and the trip waits for none. It is claimed in the store before it
begins, so that neither another worker nor a restart repeats it; where the store cannot be written
it begins all the same, once in this process: cancelling twice is better than not at all.

Never here: a lock that is held while foreign code runs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta

from failstop._keeper import Keeper
from failstop._settings import require_seconds, require_text
from failstop._storefile import StoreError
from failstop._watchdog import Timer, Watchdog
from failstop.errors import ConfigurationError
from failstop.events import (
    ActionBegan,
    ActionEnded,
    ActionFailed,
    ActionState,
    Event,
    Incident,
)
from failstop.recovery._monitor import UnprovenError
from failstop.status import ActionStatus

__all__ = ["ACTION_TIMEOUT", "Action", "ActionFunction", "Actions", "action_of"]

logger = logging.getLogger("failstop")

ACTION_TIMEOUT = 5.0
"""Seconds that an action has, where it says nothing."""
CLAIM_PATIENCE = 2.0
"""Seconds that an action waits for a store which other processes keep busy, before it begins."""
PAUSE = 0.02
"""Seconds between two tries of a store that is busy."""
OVERDUE = 60.0
"""Seconds after its time at which an action of which nothing can be known counts as interrupted."""
MOST_HUNG = 4
"""Runs of one action that may hang at a time before it is not begun again."""
MOST_BEGUN = 1000
"""Actions of incidents that are remembered as begun here."""

ActionFunction = Callable[[Incident], object]


class Action:
    """A function, sync or async, with its name and its time (seconds).

    Raises:
        TypeError: it is not callable.
        ConfigurationError: the name or the time is none.
    """

    def __init__(self, function: ActionFunction, timeout: float, name: str | None) -> None:
        if not callable(function):
            raise TypeError(f"a safety action must be callable, not {type(function).__name__}")
        own = getattr(function, "__name__", type(function).__name__)
        self.function = function
        self.timeout: float = require_seconds("timeout", timeout)
        self.name: str = require_text("name", own if name is None else name)
        if not self.name.isprintable():
            raise ConfigurationError("the name of a safety action must be printable")


def action_of(given: ActionFunction | Action) -> Action:
    """Return what was given to `FailSafe(actions=…)` as an action.

    Raises:
        TypeError: it is not callable.
    """
    return given if isinstance(given, Action) else Action(given, ACTION_TIMEOUT, None)


class Actions:
    """Run the safety actions of `keeper`'s service.

    Args:
        keeper: keeps the standing and the store.
        watchdog: what sees that an action's time is up.
        wake: called when there is an alert.
        tell: called when there are events.
        actions: the first ones.

    Raises:
        ConfigurationError: two actions have one name.
    """

    def __init__(
        self,
        keeper: Keeper,
        watchdog: Watchdog,
        wake: Callable[[], None],
        tell: Callable[[], None],
        actions: Iterable[Action] = (),
    ) -> None:
        self._keeper = keeper
        self._watchdog = watchdog
        self._wake = wake
        self._tell = tell
        self._actions: tuple[Action, ...] = ()
        self._begun: dict[tuple[str, str], _Run] = {}
        self._unsaved: list[Event] = []
        self._make_locks()
        for action in actions:
            self.add(action)

    def _make_locks(self) -> None:
        self._changed = threading.Condition()
        self._writing = threading.Lock()

    def add(self, action: Action) -> None:
        """Run `action` in each incident from now on.

        Raises:
            ConfigurationError: there is one of that name.
        """
        if any(action.name == each.name for each in self._actions):
            raise ConfigurationError(f"two safety actions are named {action.name!r}; give name=")
        self._actions = (*self._actions, action)

    @property
    def has_any(self) -> bool:
        """True where there is anything to run."""
        return bool(self._actions)

    @property
    def longest(self) -> float:
        """Seconds after which every action that begins now has ended, or its time is up."""
        return max((each.timeout for each in self._actions), default=0.0) + CLAIM_PATIENCE + 1.0

    # Beginning

    def begin(self, incident: Incident) -> None:
        """Begin each action that has not begun for `incident`; returns at once."""
        for action in self._actions:
            run = self._new_run(action, incident)
            if run is None:
                continue
            try:
                run.start()
            except RuntimeError as error:  # no thread is to be had; another process may begin it
                run.settle(ActionState.FAILED, type(error).__name__)
                self._keep_failure(self._event_of(run))
                self._release(run)

    def _new_run(self, action: Action, incident: Incident) -> _Run | None:
        """Return a run where this process has not begun it; what it inherited counts."""
        key = incident.incident_id, action.name
        with self._changed:
            if key in self._begun:
                return None
            run = self._begun[key] = _Run(self, action, incident, self._watchdog)
            while len(self._begun) > MOST_BEGUN:
                del self._begun[next(iter(self._begun))]
            return run

    def execute(self, run: _Run) -> None:
        """Claim a run and make it; called by its thread."""
        try:
            if self._claim(run):
                self._execute(run)
        finally:
            self._release(run)
            self._tell()

    def _execute(self, run: _Run) -> None:
        run.has_begun = True
        if self._hang(run.action):
            self._settle(run, ActionState.NOT_ENDED)
            return
        run.arm(time.monotonic() + run.action.timeout)
        state, error = run.call()
        run.due = None
        self._settle(run, state, error)

    def _hang(self, action: Action) -> bool:
        """Say whether so many earlier runs of an action hang that one more would help nobody."""
        with self._changed:
            runs = [run for run in self._begun.values() if run.action is action]
        return sum(run.state is ActionState.NOT_ENDED and run.is_alive for run in runs) >= MOST_HUNG

    def _claim(self, run: _Run) -> bool:
        """Say whether this process is the first; where the store cannot say, it is."""
        event = ActionBegan(*self._facts(run.incident.incident_id, run.action.name))
        try:
            is_first = self._patiently(lambda: self._keeper.store.claim_action(event))
        except StoreError:
            self._keep(event)
            is_first = True
        if is_first:
            self._keeper.events.append(event)
        return is_first

    def _patiently(self, work: Callable[[], bool]) -> bool:
        """Do `work`; again while the store is locked, when nothing of it was done."""
        limit = time.monotonic() + CLAIM_PATIENCE
        while True:
            try:
                return work()
            except StoreError as error:
                if error.kind != "store_locked" or time.monotonic() > limit:
                    raise
                time.sleep(PAUSE)

    def _facts(self, incident_id: str, name: str) -> tuple[str, int, datetime, str, str]:
        standing = self._keeper.standing
        return self._keeper.service, standing.latch.epoch, datetime.now(UTC), incident_id, name

    # Ending

    def give_up(self, run: _Run) -> None:
        """Say that the time of a run is up; called by a thread of its own."""
        self._settle(run, ActionState.NOT_ENDED)
        self._tell()

    def _settle(self, run: _Run, state: ActionState, error: str | None = None) -> None:
        """Write how a run ended: once, and once more where it ends after it was given up."""
        with self._changed:
            if run.state in (state, ActionState.ENDED, ActionState.FAILED):
                return
            run.settle(state, error)
        self._write(self._event_of(run))
        self._release(run)

    def _event_of(self, run: _Run) -> ActionEnded | ActionFailed:
        facts = self._facts(run.incident.incident_id, run.action.name)
        if run.state is ActionState.ENDED:
            return ActionEnded(*facts, run.duration)
        return ActionFailed(*facts, run.state, run.error)

    def _write(self, event: ActionEnded | ActionFailed) -> None:
        try:
            self._patiently(lambda: self._settle_in_order(event))
        except StoreError:
            self._keep_failure(event)
        self._keeper.events.append(event)
        if isinstance(event, ActionFailed):
            logger.error("the safety action %r did not succeed: %s", event.action, event.state)
            self._wake()

    def _settle_in_order(self, event: ActionEnded | ActionFailed) -> bool:
        """Write an end behind what is late: its own beginning may be among that."""
        self.write_late()
        return self._keeper.store.settle_action(event)

    def _keep_failure(self, event: ActionEnded | ActionFailed) -> None:
        self._keep(event)
        if isinstance(event, ActionFailed):
            self._keeper.store.spill_action(event)

    def _release(self, run: _Run) -> None:
        """Let nobody wait for a run that is over, or given up, or another process's."""
        with self._changed:
            run.is_settled = True
            self._changed.notify_all()

    # What could not be written

    def _keep(self, event: Event) -> None:
        with self._changed:
            self._unsaved.append(event)

    def look(self, incident: Incident | None) -> None:
        """Write what is late, find what was interrupted, begin what nobody has; called in rounds.

        Raises:
            StoreError: the store cannot be read or written.
        """
        try:
            self.write_late()
            self.find_interrupted()
        finally:
            if incident is not None:
                self.begin(incident)

    def write_late(self) -> None:
        """Write what could not be written at its time.

        Raises:
            StoreError: it cannot be written now.
        """
        with self._writing:
            while self._unsaved:
                event = self._unsaved[0]
                if isinstance(event, ActionBegan):
                    self._keeper.store.claim_action(event, is_late=True)
                elif isinstance(event, ActionEnded | ActionFailed):
                    self._keeper.store.settle_action(event)
                with self._changed:
                    del self._unsaved[0]

    def find_interrupted(self) -> None:
        """Tell of the actions whose process is gone before they ended; none is repeated.

        Raises:
            StoreError: the store cannot be read or written.
        """
        overdue = datetime.now(UTC) - timedelta(seconds=self.longest + OVERDUE)
        for incident_id, name in self._keeper.store.interrupted_actions(overdue):
            event = ActionFailed(*self._facts(incident_id, name), ActionState.INTERRUPTED)
            if self._keeper.store.settle_action(event):
                self._keeper.events.append(event)
                logger.error("the safety action %r was interrupted", name)
                self._wake()

    # What is known

    def wait(self, timeout: float) -> bool:
        """Wait until every run here has ended or was given up; say whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way(), timeout)

    def _under_way(self) -> list[_Run]:
        """Return the runs that are under way here, but for the caller's own."""
        me = threading.current_thread()
        runs = tuple(self._begun.values())
        return [run for run in runs if not run.is_settled and run.thread is not me]

    def prove(self) -> str:
        """Return where no action is under way on this host; for recovery, which must not overtake.

        Raises:
            UnprovenError: one is.
        """
        incident = self._keeper.standing.incident
        found = self.status(incident) if incident is not None else ()
        running = [each.name for each in found if each.state is ActionState.BEGUN]
        with self._changed:
            running += [run.action.name for run in self._under_way()]
        if running:
            names = ", ".join(sorted(set(running)))
            raise UnprovenError(f"safety actions are under way: {names}")
        return "no safety action is under way"

    def status(self, incident: Incident) -> tuple[ActionStatus, ...]:
        """Return the actions of `incident`, in every process of the host as far as is known."""
        try:
            stored = self._keeper.store.actions(incident.incident_id)
        except StoreError:
            stored = ()
        found = {each.name: each for each in stored}
        with self._changed:
            late = bool(self._unsaved)
            runs = tuple(self._begun.items())
        for (incident_id, name), run in runs:
            is_mine = incident_id == incident.incident_id and run.has_begun
            if is_mine and (late or name not in found):
                found[name] = ActionStatus(name, run.state, run.since, run.error)
        return tuple(found.values())

    # Forks

    def after_fork(self) -> None:
        """In a forked child: what the parent has begun is the parent's to end, and not repeated."""
        self._make_locks()
        self._unsaved.clear()
        for run in self._begun.values():
            run.is_settled, run.has_begun = True, False


class _Run(Timer):
    """One action for one incident; expires when its time is up."""

    __slots__ = (
        "_actions",
        "_began",
        "action",
        "error",
        "has_begun",
        "incident",
        "is_settled",
        "since",
        "state",
        "thread",
    )

    def __init__(
        self, actions: Actions, action: Action, incident: Incident, watchdog: Watchdog
    ) -> None:
        super().__init__(watchdog)
        self._actions = actions
        self._began = time.monotonic()
        self.action = action
        self.incident = incident
        self.state = ActionState.BEGUN
        self.error: str | None = None
        self.since = datetime.now(UTC)
        self.has_begun = False
        self.is_settled = False
        self.thread = threading.Thread(
            target=actions.execute, args=(self,), name=f"failstop-action-{action.name}", daemon=True
        )

    def start(self) -> None:
        self.thread.start()

    def settle(self, state: ActionState, error: str | None) -> None:
        self.has_begun = True
        self.state, self.error, self.since = state, error, datetime.now(UTC)

    @property
    def is_alive(self) -> bool:
        return self.thread.is_alive()

    @property
    def duration(self) -> float:
        return time.monotonic() - self._began

    def expire(self, now: float) -> None:
        self.due = None
        name = f"failstop-action-{self.action.name}-overdue"
        threading.Thread(target=self._actions.give_up, args=(self,), name=name, daemon=True).start()

    def call(self) -> tuple[ActionState, str | None]:
        """Call the action; whatever it raises is its own, and stops nobody."""
        self._began = time.monotonic()
        try:
            answer = self.action.function(self.incident)
            is_late = inspect.isawaitable(answer) and not asyncio.run(
                _ended(answer, self.action.timeout)
            )
        except BaseException as error:  # noqa: BLE001 - SystemExit too is a failure to act
            return ActionState.FAILED, type(error).__name__
        return ActionState.NOT_ENDED if is_late else ActionState.ENDED, None


async def _ended(answer: Awaitable[object], seconds: float) -> bool:
    """Await `answer` for `seconds`, then cancel it; say whether it ended by itself."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            await answer
    except TimeoutError:
        if limit.expired():
            return False
        raise
    return True
