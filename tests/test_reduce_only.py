"""Reduce only: what a deployment names passes in a halt, and never where more than that failed."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.waiting import wait_until

from failstop import (
    AsyncDatabase,
    Database,
    FailSafe,
    FailureResponse,
    Gateway,
    ProtectedCall,
    Recovery,
    with_fail_fast_protection,
)
from failstop._latch import State
from failstop._storefile import problem
from failstop.errors import (
    ConfigurationError,
    ConnectionFailedError,
    CriticalDatabaseError,
    CriticalError,
    DatabaseUnavailableError,
    GatewayUnavailableError,
    OperationsSuspendedError,
    Outcome,
    TransactionFailedError,
)
from failstop.events import Incident, Permitted
from failstop.journal import rows
from failstop.testing import PostgresDatabase, PostgresServer

SLOW = Recovery(mode="manual", probe_interval=60.0)
FAST = Recovery(mode="manual", probe_interval=0.02)

Make = Callable[..., FailSafe]


class Switch:
    """A dependency that is well or not, as the test says."""

    def __init__(self, name: str = "database") -> None:
        self.name = name
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.suspended = 0

    def probe(self) -> str:
        assert self.gate.wait(20)
        if self.failure is not None:
            raise self.failure
        return "well"

    def suspend(self, incident: Incident) -> None:
        self.suspended += 1

    def close(self) -> None: ...


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[FailSafe] = []

    def make_one(**settings: Any) -> FailSafe:
        failsafe = FailSafe("api", **{"recovery": SLOW, "reduce_only": ("cancel",), **settings})
        made.append(failsafe)
        return failsafe

    yield make_one
    for failsafe in made:
        failsafe.close()


@pytest.fixture
def halted(make: Make) -> FailSafe:
    failsafe = make()
    failsafe.start()
    halt(failsafe)
    return failsafe


def halt(failsafe: FailSafe) -> None:
    failsafe.halt(actor="alice", reason="wrong prices")


def gone() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the server is gone", kind="refused")


def venue_gone() -> GatewayUnavailableError:
    return GatewayUnavailableError("the venue is gone", kind="gateway_silent")


def passes(failsafe: FailSafe, operation: str = "cancel") -> bool:
    with failsafe.allow(operation):
        try:
            failsafe.require()
        except OperationsSuspendedError:
            return False
    return True


# Off by default, and by name


def test_nothing_passes_by_default(make: Make) -> None:
    failsafe = make(reduce_only=())
    failsafe.start()
    with pytest.raises(ConfigurationError, match="knows no operation 'cancel'"):
        failsafe.allow("cancel")
    halt(failsafe)
    with pytest.raises(OperationsSuspendedError):
        failsafe.require()


def test_a_typo_is_found_in_every_state_and_place(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"'cancle'.*\['cancel'\]"):
            failsafe.allow("cancle")
        with pytest.raises(ConfigurationError, match="'cancle'"):
            with_fail_fast_protection(failsafe=failsafe, operation="cancle")
        with pytest.raises(ConfigurationError, match="'cancle'"):
            ProtectedCall(failsafe, operation="cancle")
        halt(failsafe)


@pytest.mark.parametrize("kinds", ["cancel", ("",), (3,)])
def test_the_names_are_checked(make: Make, kinds: Any) -> None:
    with pytest.raises(ConfigurationError, match="reduce_only"):
        make(reduce_only=kinds)


def test_an_operation_needs_a_failsafe() -> None:
    with pytest.raises(ConfigurationError, match="needs failsafe="):
        with_fail_fast_protection(operation="cancel")


# What passes, and where


def test_in_normal_it_changes_nothing(make: Make) -> None:
    failsafe = make()
    with pytest.raises(OperationsSuspendedError), failsafe.allow("cancel"):
        failsafe.require()  # STARTING
    failsafe.start()
    assert passes(failsafe)
    with failsafe.allow("cancel"):
        assert not failsafe.may_reduce()
    assert failsafe.status().reduce_only == ()


def test_in_a_halt_what_is_named_passes_and_nothing_else(halted: FailSafe) -> None:
    with halted.allow("cancel"):
        halted.require()
        assert halted.may_reduce()
    with pytest.raises(OperationsSuspendedError):
        halted.require()
    assert not halted.may_reduce()
    assert not halted.is_normal
    status = halted.status()
    assert status.reduce_only == ("cancel",)
    assert status.to_dict()["reduceOnly"] == ["cancel"]


@pytest.mark.parametrize(
    ("cause", "is_passed"),
    [
        (venue_gone(), True),
        (gone(), False),
        (ConnectionFailedError("lost", kind="lost"), False),
        (TransactionFailedError("rolled back", kind="rolled_back"), False),
        (CriticalDatabaseError("unknown"), False),
        (CriticalError("whatever", kind="unheard_of"), False),
        (problem("store_full", "failstop.db", "is full"), False),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("comes", ["alone", "after a halt", "before a halt"])
def test_only_a_gateway_s_failure_leaves_it_open(
    make: Make, cause: CriticalError, is_passed: bool, comes: str
) -> None:
    failsafe = make()
    failsafe.start()
    if comes == "after a halt":
        halt(failsafe)
    cause.incident_id = None
    failsafe.trip(cause)
    if comes == "before a halt":
        halt(failsafe)
    assert passes(failsafe) is is_passed
    assert passes(failsafe) is is_passed


def test_lost_writes_end_it_for_good_until_the_reset(halted: FailSafe) -> None:
    halted.trip(venue_gone())
    assert passes(halted)
    halted.trip(gone(), needs_person=True)
    assert not passes(halted)
    halt(halted)
    assert not passes(halted)
    halted.reset(actor="alice", reason="mended")
    halt(halted)
    assert passes(halted)


def test_a_block_is_for_the_epoch_in_which_it_began(make: Make) -> None:
    failsafe = make()
    failsafe.start()
    with failsafe.allow("cancel"):
        halt(failsafe)
        with pytest.raises(OperationsSuspendedError):
            failsafe.require()
    with failsafe.allow("cancel"):
        failsafe.require()
        halt(failsafe)
        with pytest.raises(OperationsSuspendedError):
            failsafe.require()
    assert passes(failsafe)


# What the check rounds find


def test_a_database_probe_that_fails_in_a_halt_ends_it_and_is_counted_once(make: Make) -> None:
    database = Switch()
    failsafe = make(recovery=FAST)
    failsafe.watch(database, is_database=True)
    failsafe.start()
    halt(failsafe)
    assert passes(failsafe)
    database.failure = gone()
    wait_until(lambda: not passes(failsafe))
    database.failure = None
    before = failsafe.incident
    assert before is not None
    assert failsafe.plan_reset().missing == ()
    assert not passes(failsafe)
    after = failsafe.incident
    assert after is not None
    assert (before.occurrences, after.occurrences) == (2, 2)


def test_a_gateway_s_probe_that_fails_ends_nothing_but_hides_nothing_either(make: Make) -> None:
    venue, database = Switch("venue"), Switch()
    failsafe = make()
    failsafe.watch(venue)
    failsafe.watch(database, is_database=True)
    failsafe.start()
    halt(failsafe)
    venue.failure = venue_gone()
    assert "venue" in failsafe.plan_reset().missing
    assert passes(failsafe)
    database.failure = gone()
    failsafe.plan_reset()
    assert not passes(failsafe)


def test_a_user_s_check_that_fails_ends_nothing(make: Make) -> None:
    failsafe, is_well = make(), [True]
    failsafe.check(lambda: is_well[0])
    failsafe.start()
    halt(failsafe)
    is_well[0] = False
    assert failsafe.plan_reset().missing
    assert passes(failsafe)


def test_an_observation_that_is_old_permits_nothing(make: Make) -> None:
    database = Switch()
    failsafe = make(recovery=FAST)
    failsafe.watch(database, is_database=True)
    failsafe.start()
    halt(failsafe)
    assert passes(failsafe)
    database.gate.clear()
    wait_until(lambda: not passes(failsafe))
    database.gate.set()
    wait_until(lambda: passes(failsafe))


def test_a_process_that_starts_in_a_halt_looks_first(make: Make, tmp_path: Path) -> None:
    store = tmp_path / "failstop.db"
    with FailSafe("api", store=store, recovery=SLOW) as failsafe:
        halt(failsafe)
    database = Switch()
    failsafe = make(store=store)
    failsafe.watch(database, is_database=True)
    failsafe.start()
    assert failsafe.state is State.FAIL_SAFE
    assert not passes(failsafe)
    failsafe.plan_reset()
    assert passes(failsafe)


# The store, and other processes


def test_the_failure_of_one_process_ends_it_in_all_at_their_next_call(
    make: Make, tmp_path: Path
) -> None:
    store = tmp_path / "failstop.db"
    one, other = make(store=store), make(store=store)
    one.start()
    other.start()
    halt(one)
    assert passes(one)
    assert passes(other)
    one.trip(gone())
    assert not passes(other)
    assert not passes(one)
    with FailSafe("api", store=store, recovery=SLOW, reduce_only=("cancel",)) as late:
        late.plan_reset()
        assert not passes(late)


def test_a_failure_that_cannot_be_written_is_not_forgotten(make: Make, tmp_path: Path) -> None:
    store = tmp_path / "failstop.db"
    failsafe, other = make(store=store), make(store=store)
    failsafe.start()
    other.start()
    halt(failsafe)
    assert passes(failsafe)
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        failsafe.trip(gone())
        lock.execute("ROLLBACK")
    halt(other)  # so the store says that there is a halt, and nothing of the failure
    assert not passes(failsafe)
    failsafe.plan_reset()
    assert not passes(failsafe)
    assert not passes(other)


def test_whoever_acknowledges_what_it_has_not_heard_of_has_stopped(
    make: Make, tmp_path: Path
) -> None:
    store = tmp_path / "failstop.db"
    one, other = make(store=store), make(store=store)
    one.start()
    other.start()
    halt(one)
    other._keeper.acknowledge("bob")  # below what hears of it first
    assert not other.is_normal
    assert other.state is State.FAIL_SAFE


def test_a_store_that_fails_ends_it(make: Make, tmp_path: Path) -> None:
    store = tmp_path / "failstop.db"
    failsafe = make(store=store)
    failsafe.start()
    halt(failsafe)
    assert passes(failsafe)
    store.unlink()
    failsafe.plan_reset()
    assert not passes(failsafe)


def test_a_store_that_fails_one_worker_for_a_moment_ends_it_in_all(
    make: Make, tmp_path: Path
) -> None:
    """The worker that sees it may be one that leaves the databases' probes to another."""
    store = tmp_path / "failstop.db"
    one, other = make(store=store, recovery=FAST), make(store=store, recovery=FAST)
    one.start()
    other.start()
    assert one._rounds.election.is_elected
    assert not other._rounds.election.is_elected
    halt(one)
    wait_until(lambda: one.state is other.state is State.RECOVERING and not one._keeper._late)
    assert passes(one)
    one._notes.note_permitted(is_last=True)
    wait_until(lambda: not one._keeper._late)  # it has nothing to write any more
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        wait_until(lambda: passes(other))  # which is to be journaled, and cannot be
        wait_until(lambda: other.status().store_error is not None)
        lock.execute("ROLLBACK")
    wait_until(lambda: other.status().store_error is None)
    assert not passes(other)
    wait_until(lambda: not passes(one))


def test_each_use_is_journaled_by_its_kind_and_counted(make: Make, tmp_path: Path) -> None:
    store = tmp_path / "failstop.db"
    failsafe = make(store=store, reduce_only=("cancel", "flatten"))
    heard: list[Permitted] = []
    failsafe.subscribe(lambda event: heard.append(event) if isinstance(event, Permitted) else None)
    failsafe.start()
    assert passes(failsafe)
    halt(failsafe)
    for _ in range(3):
        with failsafe.allow("cancel"):
            failsafe.require()
            failsafe.require()
    assert passes(failsafe, "flatten")
    with failsafe.allow("cancel"):
        pass
    failsafe.close()
    told = [row.facts for row in rows(store) if row.facts["event"] == "Permitted"]
    assert {facts["operation"]: facts["count"] for facts in told} == {"cancel": 3, "flatten": 1}
    assert all(facts["incident"]["kind"] == "halt" for facts in told)


# How far a block reaches


def test_it_reaches_into_awaited_code_and_copied_contexts_and_ends_with_its_block(
    halted: FailSafe,
) -> None:
    async def work() -> list[bool]:
        async def later() -> bool:
            await release.wait()
            return halted.may_reduce()

        release = asyncio.Event()
        with halted.allow("cancel"):
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
            inside = [halted.may_reduce(), await asyncio.to_thread(halted.may_reduce)]
            context = contextvars.copy_context()
        release.set()
        return [*inside, await task, context.run(halted.may_reduce), halted.may_reduce()]

    assert asyncio.run(work()) == [True, True, False, False, False]


def test_a_thread_without_the_context_has_none(halted: FailSafe) -> None:
    seen: list[bool] = []
    with halted.allow("cancel"):
        thread = threading.Thread(
            target=lambda: contextvars.Context().run(lambda: seen.append(halted.may_reduce()))
        )
        thread.start()
        thread.join(20)
    assert seen == [False]


def test_two_failsafes_permit_each_its_own(make: Make, halted: FailSafe) -> None:
    with FailSafe("other", recovery=SLOW) as other:
        halt(other)
        with halted.allow("cancel"):
            assert not other.may_reduce()
    third = make(reduce_only=("flatten",))
    third.start()
    halt(third)
    with halted.allow("cancel"), third.allow("flatten"):
        assert halted.may_reduce()
        assert third.may_reduce()


def test_a_permission_is_for_one_block(halted: FailSafe) -> None:
    permission = halted.allow("cancel")
    with permission:
        pass
    with pytest.raises(RuntimeError, match="one block"):
        permission.__enter__()


# Handlers


def test_a_handler_that_reduces_runs_in_a_halt_and_others_do_not(make: Make) -> None:
    failsafe = make()
    failsafe.start()

    @with_fail_fast_protection(failsafe=failsafe, operation="cancel")
    def cancel(order: str) -> str:
        failsafe.require()
        return f"cancelled {order}"

    @with_fail_fast_protection(failsafe=failsafe, operation="cancel")
    async def cancel_later(order: str) -> str:
        await asyncio.sleep(0)
        failsafe.require()
        return f"cancelled {order}"

    @with_fail_fast_protection(failsafe=failsafe)
    def place(order: str) -> str:
        return f"placed {order}"

    assert cancel.__name__ == "cancel"
    assert asyncio.iscoroutinefunction(cancel_later)
    assert (cancel("1"), asyncio.run(cancel_later("1"))) == ("cancelled 1", "cancelled 1")
    halt(failsafe)
    assert (cancel("1"), asyncio.run(cancel_later("1"))) == ("cancelled 1", "cancelled 1")
    assert isinstance(place("1"), FailureResponse)
    failsafe.trip(gone())
    assert isinstance(cancel("1"), FailureResponse)
    assert isinstance(asyncio.run(cancel_later("1")), FailureResponse)


def test_an_operation_is_not_for_generators(make: Make) -> None:
    failsafe = make()

    def stream() -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match="not for generators"):
        with_fail_fast_protection(failsafe=failsafe, operation="cancel", respond="raise")(stream)


def test_a_protected_call_permits_in_each_of_its_pieces_until_it_is_closed(
    halted: FailSafe,
) -> None:
    call = ProtectedCall(halted, operation="cancel")
    for _ in range(2):
        with call:
            halted.require()
    assert not halted.may_reduce()
    call.close()
    with call:
        assert not halted.may_reduce()
    assert call.error is None


def test_a_gateway_s_guard_lets_it_through_too(make: Make) -> None:
    failsafe = make()
    venue = Gateway("venue", failsafe, probe=lambda: True)
    failsafe.start()
    halt(failsafe)
    with pytest.raises(OperationsSuspendedError), venue.guard():
        raise AssertionError("it was sent")
    with failsafe.allow("cancel"), venue.guard():
        pass


# The database


INSERT = text("INSERT INTO cancels DEFAULT VALUES")


@pytest.fixture
def cancels(postgres: PostgresDatabase) -> PostgresDatabase:
    postgres.execute("CREATE TABLE cancels (id serial PRIMARY KEY)")
    return postgres


def count(database: PostgresDatabase) -> int:
    return int(database.execute("SELECT count(*) FROM cancels")[0][0])


@pytest.fixture
def guarded(make: Make, cancels: PostgresDatabase) -> tuple[FailSafe, Database]:
    failsafe = make()
    database = Database.connect(cancels.url(), failsafe, deadline=5.0)
    failsafe.start()
    return failsafe, database


def test_what_is_named_commits_in_a_halt_and_nothing_else(
    guarded: tuple[FailSafe, Database], cancels: PostgresDatabase
) -> None:
    failsafe, database = guarded
    halt(failsafe)
    with pytest.raises(OperationsSuspendedError), database.transaction() as connection:
        connection.execute(INSERT)
    with failsafe.allow("cancel"):
        with database.transaction(key="cancel-1") as connection:
            connection.execute(INSERT)
        with database.session() as session:
            session.execute(INSERT)
        assert database.query("SELECT count(*) FROM cancels")[0][0] == 2
        assert database.run_once("cancel-2", lambda done: done.execute(INSERT).rowcount) == 1
    with pytest.raises(OperationsSuspendedError):
        database.query("SELECT 1")
    assert count(cancels) == 3
    assert failsafe.incident is not None
    assert failsafe.incident.may_reduce
    database.engine.dispose()


async def test_it_does_on_an_async_engine(make: Make, cancels: PostgresDatabase) -> None:
    failsafe = make()
    database = AsyncDatabase.connect(cancels.url(), failsafe, deadline=5.0)
    await asyncio.to_thread(failsafe.start)
    await asyncio.to_thread(halt, failsafe)
    with failsafe.allow("cancel"):
        async with database.transaction() as connection:
            await connection.execute(INSERT)
    with pytest.raises(OperationsSuspendedError):
        await database.query("SELECT 1")
    assert count(cancels) == 1
    await database.engine.dispose()


@pytest.mark.parametrize(
    "after", ["another halt", "a database failure", "a reset and a trip", "a trip and its reset"]
)
def test_work_in_flight_does_not_commit_beyond_its_epoch_or_its_permission(
    guarded: tuple[FailSafe, Database], cancels: PostgresDatabase, after: str
) -> None:
    failsafe, database = guarded
    halt(failsafe)
    with (
        pytest.raises(OperationsSuspendedError) as refused,
        failsafe.allow("cancel"),
        database.transaction() as connection,
    ):
        connection.execute(INSERT)
        if after == "another halt":
            halt(failsafe)
        elif after == "a database failure":
            failsafe.trip(gone())
        else:
            failsafe.reset(actor="alice", reason="mended")
            failsafe.trip(venue_gone())
            if after == "a trip and its reset":
                failsafe.reset(actor="alice", reason="mended")
    assert refused.value.outcome is Outcome.ROLLED_BACK
    assert count(cancels) == 0
    database.engine.dispose()


def test_a_database_failure_frees_at_once_what_was_let_through(
    guarded: tuple[FailSafe, Database], cancels: PostgresDatabase
) -> None:
    failsafe, database = guarded
    halt(failsafe)
    errors: list[BaseException] = []

    def cancel() -> None:
        try:
            with failsafe.allow("cancel"), database.transaction(deadline=30.0) as connection:
                connection.execute(INSERT)
                connection.execute(text("SELECT pg_sleep(30)"))
        except CriticalError as error:
            errors.append(error)

    thread = threading.Thread(target=cancel)
    thread.start()
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%'"
    wait_until(lambda: int(cancels.execute(f"{sleeping} AND pid <> pg_backend_pid()")[0][0]) == 1)
    failsafe.trip(gone())
    thread.join(5)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [OperationsSuspendedError]
    assert count(cancels) == 0
    database.engine.dispose()


def test_a_server_that_dies_in_a_halt_ends_it_in_the_call_that_sees_it(
    make: Make, breakable_postgres: PostgresServer
) -> None:
    failsafe = make()
    database = Database.connect(breakable_postgres.url(), failsafe, deadline=2.0)
    failsafe.start()
    halt(failsafe)
    with failsafe.allow("cancel"):
        database.query("SELECT 1")
    breakable_postgres.kill()
    with pytest.raises(CriticalDatabaseError), failsafe.allow("cancel"):
        database.query("SELECT 1")
    with pytest.raises(OperationsSuspendedError), failsafe.allow("cancel"):
        database.query("SELECT 1")
    assert failsafe.incident is not None
    assert not failsafe.incident.may_reduce
    assert failsafe.incident.is_halt
    database.engine.dispose()
