"""The queue for the connections of a guarded pool: first come, first served, freed by a trip.

SQLAlchemy's own queue has whoever waits compete with whoever comes, and nothing but time ends a
wait. Here what comes free is handed to the first who waits: a connection, or the room to make one.

Never here: what a trip is.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable

from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util import await_only
from sqlalchemy.util.queue import Empty, Full, QueueCommon

__all__ = ["Empty", "FairQueue", "Released"]


class Released(Exception):  # noqa: N818 - ends a wait, and is never seen outside of the pool
    """The wait was ended, though nothing came free."""


class _Given:
    """What a place may be given besides a connection."""


ROOM = _Given()
RELEASED = _Given()


class _Place:
    """A place in the queue; `given` is what it was given so far."""

    given: ConnectionPoolEntry | _Given | None = None

    def wait(self, seconds: float) -> None:
        """Return when woken, or after `seconds`."""
        raise NotImplementedError

    def wake(self) -> None:
        """End the wait.

        Raises:
            RuntimeError: nobody can be woken any more.
        """
        raise NotImplementedError


class _ThreadPlace(_Place):
    """The place of a thread."""

    def __init__(self) -> None:
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wait(self, seconds: float) -> None:
        self._asleep.acquire(timeout=max(0.0, seconds))

    def wake(self) -> None:
        self._asleep.release()


class _TaskPlace(_Place):
    """The place of a task, whose event loop runs on."""

    _loop: asyncio.AbstractEventLoop | None = None

    def wait(self, seconds: float) -> None:
        await_only(self._sleep(seconds))

    async def _sleep(self, seconds: float) -> None:
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()  # first, so that who gives now wakes this task
        if self.given is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), seconds)

    def wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._woken.set)


class FairQueue(QueueCommon[ConnectionPoolEntry]):
    """The idle connections of `pool` and whoever waits for one; takes the place of its own queue.

    The count of connections stays where SQLAlchemy keeps it, in the pool, and is changed here only.
    A finaliser may return a connection at any moment, also of the thread that holds the lock.
    """

    def __init__(self, pool: QueuePool) -> None:
        before = pool._pool  # noqa: SLF001 - the queue that this one stands in for
        self.maxsize, self.use_lifo = before.maxsize, before.use_lifo
        self._pool = pool
        self._place = _TaskPlace if pool._is_asyncio else _ThreadPlace  # noqa: SLF001
        self._idle: deque[ConnectionPoolEntry] = deque()
        with contextlib.suppress(Empty):
            while True:
                self._idle.append(before.get(False))
        self.after_fork()

    def after_fork(self) -> None:
        """Begin with a lock of its own, and without those who waited in the parent."""
        self._lock = threading.RLock()
        self._places: deque[_Place] = deque()

    # What SQLAlchemy asks of a pool's queue

    def qsize(self) -> int:
        """Return the number of idle connections."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many callers wait for a connection."""
        return len(self._places)

    def put(
        self, item: ConnectionPoolEntry, block: bool = True, timeout: float | None = None
    ) -> None:
        """Give a connection to the first who waits, or keep it; never waits.

        Raises:
            Full: as many are idle as may be.
        """
        with self._lock:
            if 0 < self.maxsize <= len(self._idle):
                raise Full
            self._idle.append(item)
            self._serve()

    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:
        """Return an idle connection; never waits.

        Raises:
            Empty: there is none.
        """
        with self._lock:
            try:
                return self._idle.pop() if self.use_lifo else self._idle.popleft()
            except IndexError:
                raise Empty from None

    # What the guarded pool asks

    def take(self, seconds: float, verify: Callable[[], None]) -> ConnectionPoolEntry | None:
        """Return a connection when it is this caller's turn; None for the room to make one.

        Args:
            seconds: how long to wait.
            verify: called after queuing up, so that a release is either seen by it or sees the
                caller; may raise.

        Raises:
            Empty: nothing came in time.
            Released: the wait was ended.
        """
        with self._lock:
            found = None if self._places else self._next()
        if found is None:
            found = self._wait(seconds, verify)
        return None if isinstance(found, _Given) else found

    def vacate(self) -> None:
        """Tell that a connection is no more: the first who waits may make another."""
        with self._lock:
            self._count_down()
            self._serve()

    def serve(self) -> None:
        """Look anew at what is there: the pool has forgotten the connections that were lent."""
        with self._lock:
            self._serve()

    def release(self) -> None:
        """End every wait."""
        with self._lock:
            places = tuple(self._places)
            self._places.clear()
            for place in places:
                place.given = RELEASED
        for place in places:
            with contextlib.suppress(RuntimeError):
                place.wake()

    def _wait(self, seconds: float, verify: Callable[[], None]) -> ConnectionPoolEntry | _Given:
        place = self._place()
        try:
            with self._lock:
                self._places.append(place)
                self._serve()
            verify()
            if place.given is None:
                place.wait(seconds)
            if place.given is None:
                raise Empty
            if place.given is RELEASED:
                raise Released
            return place.given
        except BaseException:
            self._leave(place)
            raise

    def _leave(self, place: _Place) -> None:
        """Give up a place; what it was given goes to the next."""
        with self._lock, contextlib.suppress(ValueError):  # it was taken out by who gave
            self._places.remove(place)
        if place.given is ROOM:
            self.vacate()
        elif place.given is not None and not isinstance(place.given, _Given):
            self._pool._do_return_conn(place.given)  # noqa: SLF001 - the pool's way back

    # With the lock held

    def _serve(self) -> None:
        """Hand what is there to those who wait, in their order."""
        while self._places:
            found = self._next()
            if found is None:
                return
            if not self._hand(found):
                self._put_back(found)

    def _next(self) -> ConnectionPoolEntry | _Given | None:
        try:
            return self.get(False)
        except Empty:
            pool = self._pool
            if -1 < pool._max_overflow <= pool._overflow:  # noqa: SLF001 - its count is kept here
                return None
            pool._overflow += 1  # noqa: SLF001 - as above
            return ROOM

    def _count_down(self) -> None:
        self._pool._overflow -= 1  # noqa: SLF001 - its count is kept here

    def _hand(self, found: ConnectionPoolEntry | _Given) -> bool:
        """Give `found` to the first who waits; False where there is none or it cannot be woken."""
        try:
            place = self._places.popleft()
        except IndexError:  # a finaliser has returned one meanwhile, and that was given
            return False
        place.given = found
        try:
            place.wake()
        except RuntimeError:  # its event loop is closed
            place.given = None
            return False
        return True

    def _put_back(self, found: ConnectionPoolEntry | _Given) -> None:
        if isinstance(found, _Given):
            self._count_down()
        else:
            self._idle.append(found)
