"""The doubts: asks what became of transactions in doubt, and tells who waits for the answer.

A doubt is asked in every round until there is an answer. The answer is written first, then told,
then forgotten; no lock is held while a dependency is asked or a listener told. Never here: how a
database is asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from failstop._in_doubt import ANSWERS
from failstop._keeper import Keeper
from failstop._observers import call
from failstop._storefile import StoreError
from failstop.errors import CriticalError, Outcome
from failstop.events import InDoubt
from failstop.recovery._monitor import Dependency, Questioned, UnprovenError

__all__ = ["Doubts", "OnResolved"]

logger = logging.getLogger("failstop")

OnResolved = Callable[[str, Outcome], object]


class Doubts:
    """Ask about what `keeper` has in doubt.

    Args:
        keeper: keeps the doubts and their answers.
        dependencies: who can be asked, by name.
        patience: seconds after which a round asks no further doubt; the next one goes on.
        wake: called when an answer has an alert.
    """

    def __init__(
        self,
        keeper: Keeper,
        dependencies: Mapping[str, Dependency],
        patience: float,
        wake: Callable[[], None],
    ) -> None:
        self._keeper = keeper
        self._dependencies = dependencies
        self._patience = patience
        self._wake = wake
        self._listeners: tuple[OnResolved, ...] = ()
        self._asked: dict[InDoubt, float] = {}
        self._silent: dict[str, str] = {}
        self._told: set[InDoubt] = set()

    def add(self, listener: OnResolved) -> None:
        """Tell `listener` each answer from now on."""
        self._listeners = (*self._listeners, listener)

    def prove(self) -> str:
        """Return where nothing is in doubt any more; ask first.

        Raises:
            UnprovenError: something is.
        """
        self.ask()
        left = self._keeper.in_doubt()
        if left:
            raise UnprovenError("; ".join((_counted(left), *self._obstacles(left))))
        return "no transaction is in doubt"

    def advice(self, doubts: Sequence[InDoubt]) -> tuple[str, ...]:
        """Return what a person has to do for doubts that nobody can ask."""
        names = self._unwatched(doubts)
        return tuple(f"watch {name!r} again: a transaction of it is in doubt" for name in names)

    def _unwatched(self, doubts: Sequence[InDoubt]) -> list[str]:
        names = dict.fromkeys(doubt.database for doubt in doubts)
        return [name for name in names if not isinstance(self._dependencies.get(name), Questioned)]

    def _obstacles(self, left: Sequence[InDoubt]) -> list[str]:
        names = {doubt.database for doubt in left}
        silent = [f"{name!r} cannot be asked now" for name in self._silent if name in names]
        return [f"no {name!r} is watched that can be asked" for name in self._unwatched(left)] + [
            *silent
        ]

    # Asking

    def ask(self) -> None:
        """Ask what became of each doubt, and tell the answers; called by the monitor's thread."""
        before, self._silent = self._silent, {}
        until = time.monotonic() + self._patience
        for doubt in self._in_turn():
            if doubt.database not in self._silent and time.monotonic() < until:
                self._ask(doubt, before)
        self._tell()

    def _in_turn(self) -> list[InDoubt]:
        """Return the doubts that can be asked, the one that waits longest first."""
        found = self._keeper.in_doubt()
        self._asked = {doubt: at for doubt, at in self._asked.items() if doubt in found}
        unwatched = self._unwatched(found)
        askable = [doubt for doubt in found if doubt.database not in unwatched]
        return sorted(askable, key=lambda doubt: self._asked.get(doubt, 0.0))

    def _ask(self, doubt: InDoubt, before: Mapping[str, str]) -> None:
        self._asked[doubt] = time.monotonic()
        dependency = self._dependencies[doubt.database]
        assert isinstance(dependency, Questioned)
        try:
            outcome = dependency.resolve(doubt)
        except BaseException as error:  # noqa: BLE001 - no answer, whatever it is; nor a thread's end
            self._silent[doubt.database] = type(error).__name__
            if not isinstance(error, CriticalError) and doubt.database not in before:
                logger.error("%s raised %s when asked", doubt.database, type(error).__name__)
            return
        if outcome in ANSWERS:
            self._resolve(doubt, outcome)

    def _resolve(self, doubt: InDoubt, outcome: Outcome) -> None:
        try:
            if self._keeper.resolve(doubt, outcome):
                self._wake()
        except StoreError as error:
            logger.debug("an answer waits, as it cannot be written: %s", error)

    # Telling

    def _tell(self) -> None:
        """Tell the answers that this process has to tell: each once, as long as it lives."""
        try:
            found = self._keeper.untold()
        except StoreError as error:
            logger.debug("an answer waits to be told, as it cannot be read: %s", error)
            return
        for answered in found:
            if answered.doubt not in self._told:
                self._told.add(answered.doubt)
                for listener in self._listeners:
                    call(listener, answered.doubt.key, answered.outcome)
            self._forget(answered.doubt)

    def _forget(self, doubt: InDoubt) -> None:
        try:
            self._keeper.forget_doubt(doubt)
        except StoreError as error:
            logger.debug("an answer that was told is forgotten later: %s", error)
        else:
            self._told.discard(doubt)

    def after_fork(self) -> None:
        """In a forked child: what was told is the parent's to forget."""
        self._told.clear()


def _counted(left: Sequence[InDoubt]) -> str:
    return f"{len(left)} transaction{'s are' if len(left) > 1 else ' is'} in doubt"
