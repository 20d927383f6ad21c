"""What is known of a database: who may change it, and what a difference means."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.recovery.conftest import UNTRUSTED, Open
from tests.waiting import wait_until

from failstop import FailSafe
from failstop._evidence import Known, Sighting
from failstop._latch import State
from failstop._standing import Leave
from failstop.database import Database
from failstop.errors import CriticalDatabaseError, DatabaseUnavailableError, ResetRefusedError
from failstop.events import CheckResult, Reset
from failstop.recovery import Recovery
from failstop.recovery._baselines import finding
from failstop.testing import CapturingSink, PostgresServer

TRUSTED = Sighting("7/5", 1, 10)
KNOWN = Known(TRUSTED, TRUSTED)
BY_HAND = {"probe_interval": 3600.0}


# What a difference means


@pytest.mark.parametrize("seen", [TRUSTED, Sighting("7/5", 1, 11), Sighting("7/5", 1, 9999)])
def test_the_same_database_with_a_witness_that_rose_is_trusted(seen: Sighting) -> None:
    assert finding("db", KNOWN, seen) is None


def test_a_database_that_was_never_seen_has_nothing_to_be_compared_with() -> None:
    assert finding("db", None, TRUSTED) is None


@pytest.mark.parametrize(
    ("seen", "kind", "is_acceptable"),
    [
        (Sighting("8/5", 1, 11), "cluster_changed", False),
        (Sighting("7/6", 1, 11), "cluster_changed", False),
        (Sighting("8/5", 2, 3), "cluster_changed", False),
        (Sighting("7/5", 2, 11), "timeline_changed", True),
        (Sighting("7/5", 1, 9), "writes_lost", False),
        (Sighting("7/5", 1, None), "writes_lost", False),
        (Sighting("7/5", 2, 9), "writes_lost", False),
        (Sighting("7/5", None, 11), "timeline_changed", True),
    ],
)
def test_the_gravest_difference_is_told_and_waits_for_a_person(
    seen: Sighting, kind: str, is_acceptable: bool
) -> None:
    found = finding("db", KNOWN, seen)
    assert found is not None
    assert (found.kind, found.is_acceptable) == (kind, is_acceptable)
    assert found.needs_person
    assert "force" in found.action or is_acceptable


def test_what_is_lost_by_receipts_stays_lost_whatever_the_witness_says() -> None:
    found = finding("db", Known(TRUSTED, TRUSTED, lost=3), Sighting("7/5", 1, 11))
    assert found is not None
    assert found.kind == "writes_lost"
    assert "at least 3 transactions that were acknowledged are missing" in found.message


def test_a_timeline_without_a_witness_says_that_nothing_is_known_of_losses() -> None:
    found = finding("db", Known(Sighting("7/5", 1), Sighting("7/5", 1)), Sighting("7/5", 2))
    assert found is not None
    assert "whether writes were lost is not known" in found.message


# Who may change it


class Staged:
    """A dependency whose probe notes what the test says, as a database's does."""

    name = "database"

    def __init__(self, failsafe: FailSafe) -> None:
        self._failsafe = failsafe
        self.seen = TRUSTED
        self.gate, self.waits = threading.Event(), threading.Event()
        self.gate.set()

    def probe(self) -> str:
        _, known = self._failsafe.baselines.known(self.name)
        found = finding(self.name, known, self.seen)
        self._failsafe.baselines.note(self.name, self.seen, is_intact=found is None)
        if not self.gate.is_set():
            self.waits.set()
            self.gate.wait(30)
        if found is not None:
            raise found
        return "well"

    def suspend(self, incident: object) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[tuple[FailSafe, Staged]]:
    recovery = Recovery(probe_interval=0.01, consecutive=1)
    failsafe = FailSafe("desk", store=tmp_path / "desk.db", recovery=recovery)
    dependency = Staged(failsafe)
    failsafe.watch(dependency)
    with failsafe:
        yield failsafe, dependency


def test_recovery_by_itself_accepts_nothing(staged: tuple[FailSafe, Staged]) -> None:
    """The right database came back; the witness of the other one was not taken for its own."""
    failsafe, dependency = staged
    dependency.seen = Sighting("7/5", 2, 500)
    wait_until(lambda: failsafe.incident is not None)
    failsafe.plan_reset()
    dependency.seen = Sighting("7/5", 1, 11)
    plan = failsafe.plan_reset()
    assert (plan.missing, plan.accepts) == ((), ())
    assert not failsafe.is_normal, "it waits for a person all the same"
    _, known = failsafe.baselines.known("database")
    assert known is not None
    assert known.baseline == Sighting("7/5", 1, 11)


def test_a_persons_reset_accepts_what_was_seen_last(staged: tuple[FailSafe, Staged]) -> None:
    failsafe, dependency = staged
    dependency.seen = Sighting("7/5", 2, 12)
    wait_until(lambda: failsafe.incident is not None)
    assert failsafe.plan_reset().accepts == ("database",)
    failsafe.reset(actor="ann", reason="planned")
    _, known = failsafe.baselines.known("database")
    assert known is not None
    assert (known.baseline, known.accepted) == (Sighting("7/5", 2, 12), failsafe.epoch)
    dependency.seen = Sighting("7/5", 1, 13)
    wait_until(lambda: failsafe.incident is not None)


@pytest.mark.parametrize(
    "seen", [Sighting("7/5", 1, 4), Sighting("7/5", 1), Sighting("9/9", 1, 10), Sighting("7/5", 2)]
)
@pytest.mark.parametrize("force", [False, True])
def test_only_force_accepts_what_a_round_has_seen_that_is_under_way(
    seen: Sighting, force: bool, tmp_path: Path
) -> None:
    with closing(FailSafe("desk", store=tmp_path / "desk.db")) as failsafe:
        failsafe.baselines.known("database")
        failsafe.baselines.note("database", TRUSTED, is_intact=True)
        failsafe.halt(actor="ann", reason="drill")
        passed = CheckResult("database", True, "well", datetime.now(UTC), 0.0)
        failsafe.baselines.note("database", seen, is_intact=False)
        latch = failsafe._keeper.store.read().standing.latch
        facts = ("desk", "ann", "done", datetime.now(UTC), latch.epoch, latch.revision)
        failsafe._keeper.store.change(Leave(*facts, (passed,), force))
        _, known = failsafe.baselines.known("database")
        assert known is not None
        assert known.baseline == (seen if force else TRUSTED)


def test_a_round_under_way_does_not_tell_again_what_a_person_accepts_meanwhile(
    staged: tuple[FailSafe, Staged],
) -> None:
    failsafe, dependency = staged
    dependency.seen = Sighting("7/5", 2, 12)
    wait_until(lambda: failsafe.incident is not None)
    failsafe.plan_reset()
    _, proof = failsafe._rounds.plan(10.0)
    dependency.gate.clear()
    assert dependency.waits.wait(10)
    failsafe._rounds.leave("ann", "planned", proof, force=False)
    dependency.gate.set()
    failsafe.plan_reset()
    assert failsafe.is_normal


def test_a_finding_that_comes_while_a_person_decides_refuses_the_reset(
    staged: tuple[FailSafe, Staged],
) -> None:
    failsafe, dependency = staged
    failsafe.halt(actor="ann", reason="drill")
    failsafe.plan_reset()
    dependency.seen = Sighting("7/5", 2, 12)
    with pytest.raises(ResetRefusedError, match="a failure came while the checks were made"):
        while not failsafe.is_normal:
            failsafe.reset(actor="ann", reason="done")
    assert failsafe.plan_reset().accepts == ("database",)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE evidence SET cluster = ''",
        "UPDATE evidence SET witness = 'many'",
        "UPDATE evidence SET timeline = -1",
        "UPDATE evidence SET lost = 'none'",
        "DROP TABLE evidence",
    ],
)
def test_evidence_that_makes_no_sense_trips(
    damage: str, staged: tuple[FailSafe, Staged], tmp_path: Path
) -> None:
    failsafe, dependency = staged
    dependency.seen = Sighting("7/5", 1, 11)
    failsafe.plan_reset()
    with closing(sqlite3.connect(tmp_path / "desk.db", timeout=10)) as store, store:
        store.execute("PRAGMA writable_schema = ON")
        store.execute(damage)
    wait_until(lambda: failsafe.state is State.FAIL_SAFE)
    assert failsafe.plan_reset().missing[0] == "database"


# Receipts that a pruning took


def test_receipts_that_a_pruning_took_are_not_lost(
    server: PostgresServer, url: str, opened: Open
) -> None:
    service = opened(url, **BY_HAND)
    service.trade(1)
    service.trade(2, key="order-2")
    service.failsafe.halt(actor="ann", reason="maintenance")
    horizon = datetime.now(UTC) + timedelta(days=1)
    server.execute("INSERT INTO failstop.horizon VALUES (1, %s)", [horizon])
    server.execute("DELETE FROM failstop.receipt WHERE is_automatic")
    assert service.failsafe.plan_reset().missing == ()
    server.execute("DELETE FROM failstop.receipt")
    plan = service.failsafe.plan_reset()
    assert plan.missing == UNTRUSTED
    assert "at least 1 transaction that was acknowledged" in plan.why[0]


def test_what_only_this_process_was_told_can_be_asked_for_alone(
    server: PostgresServer, url: str, opened: Open
) -> None:
    service = opened(url, **BY_HAND)
    assert service.database.recall() == "no transaction was acknowledged yet"
    service.trade(1)
    assert service.database.recall() == "the last 1 transactions of this process are there"
    server.execute("DELETE FROM failstop.receipt")
    with pytest.raises(CriticalDatabaseError) as lost:
        service.database.recall()
    assert lost.value.kind == "writes_lost"


# SQLite


def test_another_file_in_the_place_of_an_sqlite_database_waits_for_a_person(
    tmp_path: Path,
) -> None:
    file = tmp_path / "trades.db"
    failsafe = FailSafe("desk", recovery=Recovery(probe_interval=3600.0, consecutive=1))
    database = Database.connect(f"sqlite:///{file}", failsafe)
    database.create_schema()
    with failsafe:
        with database.transaction() as connection:
            connection.execute(text("CREATE TABLE trades (n integer)"))
        failsafe.plan_reset()
        assert failsafe.is_normal
        file.rename(tmp_path / "old.db")
        with closing(sqlite3.connect(file)) as other:
            other.execute("CREATE TABLE trades (n integer)")
        failsafe.plan_reset()
        assert failsafe.incident is not None
        assert failsafe.incident.kind == "cluster_changed"
        assert failsafe.incident.needs_person
    database.engine.dispose()


# Checks of the user's own


def test_a_check_that_hangs_raises_or_lies_holds_recovery_back(tmp_path: Path) -> None:
    recovery = Recovery(probe_interval=0.01, consecutive=1, check_timeout=20.0)
    failsafe = FailSafe("desk", recovery=recovery)
    gate = threading.Event()
    answers: list[object] = []

    @failsafe.check(timeout=0.05)
    def venue() -> bool:
        return gate.wait(30)

    @failsafe.check
    def books() -> bool:
        if not answers:
            raise LookupError("hunter2")
        return answers[-1]  # type: ignore[return-value] # it lies in its type

    with failsafe:
        plan = failsafe.plan_reset()
        assert plan.missing == ("venue", "books")
        assert plan.why[0].startswith("venue: hangs since")
        assert plan.why[1] == "books: raised LookupError"
        gate.set()
        answers.append("yes")
        wait_until(lambda: failsafe.plan_reset().why == ("books: returned str, not True",))
        assert not failsafe.is_normal
        answers.append(True)
        wait_until(lambda: failsafe.is_normal)


# Force


def test_force_works_with_a_monitor_that_hangs_and_names_it(tmp_path: Path) -> None:
    sink, resets, gate = CapturingSink(), list[Reset](), threading.Event()
    recovery = Recovery(probe_interval=3600.0, round_timeout=0.3)
    failsafe = FailSafe("desk", store=tmp_path / "desk.db", sinks=[sink], recovery=recovery)
    failsafe.subscribe(lambda event: resets.append(event) if isinstance(event, Reset) else None)

    class Hanging(Staged):
        def probe(self) -> str:
            gate.wait(30)
            raise DatabaseUnavailableError("it is dead", kind="refused")

    failsafe.watch(Hanging(failsafe))
    with failsafe:
        plan = failsafe.plan_reset()
        assert plan.missing[-1] == "monitor"
        assert "did not answer in time" in plan.why[-1]
        with pytest.raises(ResetRefusedError):
            failsafe.reset(actor="ann", reason="hope")
        failsafe.reset(actor="ann", reason="we must", force=True)
        assert resets[-1].failed == ("monitor",)
        alert = sink.wait_for(lambda alert: alert.kind == "forced_reset")[-1]
        assert "ann FORCED the service back although these checks failed: monitor" in alert.message
        gate.set()
