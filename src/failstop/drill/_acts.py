"""The faults of the drill: each strikes when it is entered and is mended when it is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from failstop.drill._stage import CONNECTION_LIMIT, Needs, OwnStage, Stage
from failstop.errors import ConfigurationError
from failstop.testing import Strike

__all__ = ["ACTS", "Act", "choose"]

PAUSE = 0.01
"""Seconds between two rounds of ending backends."""
LOST = 20
"""Orders that the failover loses; some of them were answered just then, and not all."""
PATIENCE = 10.0
"""Seconds to wait for a moment of the conversation."""


@contextmanager
def killed(stage: OwnStage) -> Iterator[None]:
    """Kill every process of the server; start it again."""
    stage.server.kill()
    try:
        yield
    finally:
        stage.server.start()


@contextmanager
def frozen(stage: OwnStage) -> Iterator[None]:
    """Stop every process of the server; let them run on."""
    stage.server.freeze()
    try:
        yield
    finally:
        stage.server.thaw()


@contextmanager
def read_only(stage: OwnStage) -> Iterator[None]:
    """Refuse every write; allow them again."""
    stage.server.make_read_only()
    try:
        yield
    finally:
        stage.server.make_read_only(False)


@contextmanager
def terminated(stage: Stage) -> Iterator[None]:
    """End the API's backends, and those that take their place, until it has tripped.

    Once would not do: an idle connection that died is replaced, and nobody notices.
    """
    stopping = threading.Event()

    def end_them() -> None:
        while not stopping.wait(PAUSE):
            stage.terminate()

    thread = threading.Thread(target=end_them)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@contextmanager
def full(stage: OwnStage) -> Iterator[None]:
    """Take every connection that the API's role may have, and leave it those it has."""
    hoard: list[psycopg.Connection] = []
    try:
        with suppress(psycopg.OperationalError):  # the end: no more are given
            while True:
                hoard.append(stage.connect())
        stage.limit_connections(len(hoard))  # so that the API gets none back that it loses
        yield
    finally:
        for connection in hoard:
            connection.close()
        stage.limit_connections(CONNECTION_LIMIT)


@contextmanager
def refused(stage: Stage) -> Iterator[None]:
    """Reset every connection and refuse new ones; let them through again."""
    stage.proxy.refuse()
    stage.proxy.reset()
    try:
        yield
    finally:
        stage.proxy.heal()


@contextmanager
def swallowed(stage: Stage) -> Iterator[None]:
    """Let nothing pass and tell nobody; then what was sent arrives, as in TCP."""
    stage.proxy.black_hole()
    try:
        yield
    finally:
        stage.proxy.heal()


@contextmanager
def half_open(stage: Stage) -> Iterator[None]:
    """End the server's side of every connection while an order is under way; tell nobody.

    Idle ones would not do: their ping is not answered, they are replaced, and nobody notices.
    """
    _await(stage.proxy.after(f"INSERT INTO {stage.orders}", everywhere=True).half_open())
    try:
        yield
    finally:
        stage.proxy.heal()


@contextmanager
def reply_lost(stage: Stage) -> Iterator[None]:
    """Reset the connection of one order when the server has answered its COMMIT.

    The monitor commits as well: its next write is kept until an order's COMMIT was struck.
    """
    is_kept, may_go_on = threading.Event(), threading.Event()

    def keep() -> None:
        is_kept.set()
        may_go_on.wait(PATIENCE)

    stage.proxy.after("INSERT INTO failstop.witness").call(keep)
    try:
        is_kept.wait(PATIENCE)
        _await(stage.proxy.before_reply("COMMIT").reset())
        may_go_on.set()
        yield
    finally:
        may_go_on.set()
        stage.proxy.heal()


def fall_behind(stage: OwnStage) -> None:
    """Have a standby that lacks the last orders which were accepted."""
    stage.make_standby()
    seen, limit = len(stage.rows()), time.monotonic() + PATIENCE
    while len(stage.rows()) < seen + LOST and time.monotonic() < limit:
        time.sleep(PAUSE)


@contextmanager
def failed_over(stage: OwnStage) -> Iterator[None]:
    """Put that standby in the server's place; there is no way back."""
    stage.fail_over()
    yield


def _await(strike: Strike) -> None:
    """Wait for a moment; where it does not come, the act shows that nothing tripped."""
    with suppress(TimeoutError):
        strike.wait(PATIENCE)


@dataclass(frozen=True, slots=True)
class Act:
    """One fault, which `lasts` so many seconds after the trip, where the stage has what it `needs`.

    It strikes when `prepare` has returned; `clients` more than usual send meanwhile, and `then`
    strikes when it has tripped. Where `tells`
    is an outcome, the API must answer at least one order with it. Where `waits` are words, it must
    not recover by itself, but wait for a person whom its plan tells them.
    """

    name: str
    title: str
    fault: Callable[[Any], AbstractContextManager[None]]
    needs: Needs = Needs.NOTHING
    clients: int = 0
    then: Callable[[Any], None] | None = None
    lasts: float = 0.5
    tells: str | None = None
    waits: str | None = None
    prepare: Callable[[Any], None] | None = None


SERVER, MOMENTS = Needs.SERVER, Needs.MOMENTS

ACTS = (
    Act("kill", "the server is killed with SIGKILL", killed, SERVER),
    Act("freeze", "the server is frozen with SIGSTOP", frozen, SERVER),
    Act("read-only", "the server turns read-only", read_only, SERVER),
    Act("terminate", "the backends of the API are terminated", terminated, lasts=0.0),
    # the probe keeps the connection it has, so that one is cut as well
    Act("connections", "every connection is taken", full, SERVER, 16, OwnStage.terminate),
    Act("refuse", "the network resets every connection and refuses new ones", refused),
    Act("black-hole", "the network lets nothing pass and tells nobody", swallowed),
    Act("half-open", "the server's side of every connection is gone", half_open, MOMENTS, lasts=0),
    Act(
        "lost-reply",
        "the reply to one COMMIT is lost",
        reply_lost,
        MOMENTS,
        lasts=0.0,
        tells="COMMITTED",
    ),
    # the last one: the server that is there then is another one
    Act(
        "failover",
        "a standby takes over that lacks the last orders which were accepted",
        failed_over,
        SERVER,
        waits="has lost committed writes",
        prepare=fall_behind,
    ),
)


def choose(names: Sequence[str], offers: Collection[Needs]) -> tuple[list[Act], dict[str, str]]:
    """Return the acts that a stage can play, and why each of the others is left out.

    Raises:
        ConfigurationError: one that was named is none, or cannot be played there.
    """
    for name in names:
        _require(name, offers)
    wanted = [act for name in names for act in ACTS if act.name == name] or list(ACTS)
    left_out = {act.name: act.needs.value for act in wanted if act.needs not in offers}
    return [act for act in wanted if act.name not in left_out], left_out


def _require(name: str, offers: Collection[Needs]) -> None:
    found = next((act for act in ACTS if act.name == name), None)
    if found is None:
        known = ", ".join(act.name for act in ACTS)
        raise ConfigurationError(f"no fault {name!r}; there are {known}")
    if found.needs not in offers:
        raise ConfigurationError(f"the fault {name!r} needs {found.needs.value}; leave it out")
