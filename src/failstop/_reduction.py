"""Reduce only: the kinds of operation that are let through while a person or a gateway stops all.

Whoever holds open orders in a halt must be able to cancel them. A deployment names the kinds, the
code says what it is doing, and the latch lets it through exactly while the incident is a halt or a
gateway's and nothing has failed besides: never where a database, the store or the evidence is in
question. Looked at only after the latch has refused.

Never here: what is done, and a way to let through what was not named.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from failstop._keeper import Keeper
from failstop._latch import State
from failstop._settings import require_text
from failstop.errors import ConfigurationError

__all__ = ["Permission", "Reduction"]

SUSPENDED = (State.FAIL_SAFE, State.RECOVERING)


class Reduction:
    """Say whether the current work is of a kind that passes, and passes now.

    Args:
        kinds: the kinds of operation that the deployment lets through.
        keeper: keeps the standing.
        is_proven: says whether the databases and the store were seen to be well just now.

    Raises:
        ConfigurationError: the kinds are no texts.
    """

    def __init__(self, kinds: Iterable[str], keeper: Keeper, is_proven: Callable[[], bool]) -> None:
        if isinstance(kinds, str):
            raise ConfigurationError(f"reduce_only takes several names; give ({kinds!r},)")
        self.kinds: frozenset[str] = frozenset(require_text("reduce_only", each) for each in kinds)
        self._keeper = keeper
        self._is_proven = is_proven
        self._used: Counter[str] = Counter()
        self._used_in: str | None = None
        self.after_fork()

    def after_fork(self) -> None:
        """Begin with a lock of its own, and without what the parent counts."""
        self._counting = threading.Lock()
        self._used.clear()

    def permission(self, kind: object) -> Permission:
        """Return the permission for work of a kind in the epoch that is now.

        Raises:
            ConfigurationError: no such kind was named: it would pass or be refused by a typo.
        """
        if not isinstance(kind, str) or kind not in self.kinds:
            raise ConfigurationError(
                f"failsafe {self._keeper.service!r} knows no operation {kind!r}; name it in "
                f"reduce_only=, where {sorted(self.kinds)} are"
            )
        return Permission(self, kind, self._keeper.standing.latch.epoch)

    @property
    def current(self) -> Permission | None:
        """This service's permission in the current context, None where there is none."""
        found = _current.get()
        while found is not None and found.reduction is not self:
            found = found.outer
        return None if found is None or found.is_closed else found

    def admits(self, permission: Permission) -> bool:
        """Say whether work under `permission` passes although the state is not NORMAL; count it."""
        incident = self._keeper.standing.incident
        if incident is None:
            return False
        self._used_in = incident.incident_id  # first: a failure that comes now finds it, or is seen
        if not (self.is_open and self._keeper.standing.latch.epoch == permission.epoch):
            return False
        if not permission.is_used:
            permission.is_used = True
            with self._counting:
                self._used[permission.kind] += 1
        return True

    @property
    def is_open(self) -> bool:
        """True where the kinds that were named pass now."""
        standing = self._keeper.standing
        incident = standing.incident
        return (
            bool(self.kinds)
            and standing.latch.state in SUSPENDED
            and incident is not None
            and incident.may_reduce
            and self._keeper.problem is None
            and self._is_proven()
        )

    def has_just_ended(self) -> bool:
        """Say, once, that what was let through in the open incident may pass no more."""
        incident, used_in = self._keeper.standing.incident, self._used_in
        if used_in is None or incident is None or incident.may_reduce:
            return False
        self._used_in = None
        return True

    def take_counts(self) -> dict[str, int]:
        """Return how often each kind was used since the last call."""
        with self._counting:
            found = dict(self._used)
            self._used.clear()
        return found


class Permission:
    """Permits work of one kind, in one epoch, for as long as its block lasts.

    It travels in the context: into awaited code and the frameworks' worker threads. It is closed
    at the end of its block, so that a task which outlives that takes nothing along.
    """

    def __init__(self, reduction: Reduction, kind: str, epoch: int) -> None:
        self.reduction = reduction
        self.kind = kind
        self.epoch = epoch
        self.outer: Permission | None = None
        self.is_used = False
        self.is_closed: bool = False
        self._has_outer = False
        self._token: Token[Permission | None] | None = None

    def enter(self) -> None:
        """Make it the current one of the context."""
        outer = _current.get()
        if not self._has_outer:  # the first one makes a circle impossible
            self.outer, self._has_outer = outer, True
        self._token = _current.set(self)

    def leave(self) -> None:
        """Leave it; it may be entered again until it is closed."""
        token, self._token = self._token, None
        if token is not None:
            with contextlib.suppress(ValueError):  # closed by the garbage collector, elsewhere
                _current.reset(token)

    def close(self) -> None:
        """Permit nothing any more."""
        self.is_closed = True

    def __enter__(self) -> Self:
        if self._token is not None or self.is_closed:
            raise RuntimeError("a permission is for one block; call allow() for each")
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        self.leave()


_current: ContextVar[Permission | None] = ContextVar("failstop_permission", default=None)
