"""What a person does to a store while its service is dead, and what the next one makes of it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.waiting import wait_until

from failstop import FailSafe, journal, offline
from failstop._commits import Commits
from failstop._latch import State
from failstop.alerts import AlertAction, Route
from failstop.errors import ConfigurationError, CriticalError, Outcome, ResetRefusedError
from failstop.events import Event, Followed, InDoubt
from failstop.recovery import Recovery
from failstop.testing import CapturingSink

QUICK = Recovery(probe_interval=0.05, consecutive=2)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store of a service that is well, and gone."""
    path = tmp_path / "service.db"
    FailSafe("trading", store=path).close()
    return path


def events(store: Path) -> list[dict[str, object]]:
    return [row.facts for row in journal.rows(store)]


def doubt(key: str = "order-1") -> InDoubt:
    return InDoubt("database", key, datetime.now(UTC), 4711)


# Halt


def test_a_halt_without_the_service_is_journaled_and_keeps_it_stopped(store: Path) -> None:
    incident = offline.halt(store, actor="alice", reason="a rehearsal").incident
    assert incident.cause == "halted by alice: a rehearsal"
    assert events(store)[-1]["event"] == "Halted"
    assert journal.check(store).is_sound
    with FailSafe("trading", store=store, recovery=QUICK) as failsafe:
        assert failsafe.state in (State.FAIL_SAFE, State.RECOVERING)
        assert failsafe.incident is not None
        assert failsafe.incident.incident_id == incident.incident_id
        assert failsafe.incident.is_halt


def test_the_page_of_a_halt_is_sent_by_the_next_service_that_has_sinks(store: Path) -> None:
    offline.halt(store, actor="alice", reason="a rehearsal")
    assert journal.check(store).waiting == {"*": 1}
    with FailSafe("trading", store=store, recovery=QUICK):
        pass  # it has no sinks, so the page is not its own to take
    assert journal.check(store).waiting == {"*": 1}
    sink = CapturingSink()
    with FailSafe("trading", store=store, sinks=[sink], recovery=QUICK):
        wait_until(lambda: len(sink.alerts) == 1)
    assert (sink.alerts[0].action, sink.alerts[0].kind) == (AlertAction.TRIGGER, "halt")
    assert "halted by alice: a rehearsal" in sink.alerts[0].message
    assert journal.check(store).waiting == {}


def test_a_service_that_runs_adopts_a_halt_and_sends_its_page(store: Path) -> None:
    sink = CapturingSink()
    with FailSafe("trading", store=store, sinks=[sink], recovery=QUICK) as failsafe:
        assert failsafe.is_normal
        offline.halt(store, actor="alice", reason="a rehearsal")
        wait_until(lambda: not failsafe.is_normal and len(sink.alerts) == 1)


def test_a_page_obeys_the_routes_of_the_service_that_sends_it(store: Path) -> None:
    offline.halt(store, actor="alice", reason="a rehearsal")
    loud, quiet = CapturingSink("loud"), CapturingSink("quiet")
    routes = [Route(loud), Route(quiet, min_severity="critical")]
    with FailSafe("trading", store=store, sinks=routes, recovery=QUICK):
        wait_until(lambda: len(loud.alerts) == 1)
    assert quiet.alerts == []


def test_a_note_is_not_escalated(store: Path) -> None:
    """Nobody can acknowledge it, so nothing would end that."""
    offline.halt(store, actor="alice", reason="a rehearsal")
    offline.reset(store, actor="bob", reason="it is over", epoch=1, force=True)
    first, second = CapturingSink("first"), CapturingSink("second")
    routes = [Route(first), Route(second, escalate_after=0.1)]
    with FailSafe("trading", store=store, sinks=routes, recovery=QUICK):
        wait_until(lambda: len(first.alerts) == 3)
    assert second.alerts == []
    assert journal.check(store).waiting == {}


def test_no_sink_may_have_the_name_that_stands_for_all() -> None:
    with pytest.raises(ConfigurationError, match="stands for every sink"):
        Route(CapturingSink(), name="*")


def test_a_halt_of_a_tripped_service_has_an_epoch_of_its_own(store: Path) -> None:
    """So that a reset which saw the trip only is refused."""
    first = offline.halt(store, actor="alice", reason="a rehearsal")
    second = offline.halt(store, actor="bob", reason="for another reason")
    assert (first.epoch, second.epoch) == (1, 2)
    assert second.incident.incident_id == first.incident.incident_id
    with pytest.raises(ResetRefusedError):
        offline.reset(store, actor="carol", reason="alice said so", epoch=1, force=True)


def test_a_halt_waits_for_a_store_that_others_write(store: Path) -> None:
    with closing(sqlite3.connect(store, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.8, lambda: other.execute("COMMIT"))
        timer.start()
        offline.halt(store, actor="alice", reason="a rehearsal")
        timer.join()
    assert journal.check(store).incident is not None


@pytest.mark.parametrize(("actor", "reason"), [("", "why"), ("alice", " ")])
def test_nobody_halts_without_actor_and_reason(store: Path, actor: str, reason: str) -> None:
    with pytest.raises(ConfigurationError):
        offline.halt(store, actor=actor, reason=reason)
    assert journal.check(store).incident is None


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no store"):
        offline.halt(tmp_path / "nothing.db", actor="alice", reason="why")
    assert list(tmp_path.iterdir()) == []


# Reset


def test_a_reset_that_nobody_observed_for_is_refused_without_force(store: Path) -> None:
    offline.halt(store, actor="alice", reason="a rehearsal")
    with pytest.raises(ResetRefusedError, match="observation") as refused:
        offline.reset(store, actor="bob", reason="it is over", epoch=1)
    assert refused.value.checks == ("observation",)
    assert journal.check(store).state is State.FAIL_SAFE


def test_a_forced_reset_is_journaled_with_all_that_is_unknown(store: Path) -> None:
    offline.halt(store, actor="alice", reason="a rehearsal")
    incident, overruled = offline.reset(
        store, actor="bob", reason="it is over", epoch=1, force=True
    )
    assert (incident.kind, overruled) == ("halt", ("observation",))
    row = events(store)[-1]
    assert (row["event"], row["actor"], row["failed"]) == ("Reset", "bob", ["observation"])
    assert journal.check(store).state is State.NORMAL


def test_what_was_halted_and_reset_meanwhile_is_paged_and_resolved(store: Path) -> None:
    offline.halt(store, actor="alice", reason="a rehearsal")
    offline.reset(store, actor="bob", reason="it is over", epoch=1, force=True)
    sink = CapturingSink()
    with FailSafe("trading", store=store, sinks=[sink], recovery=QUICK) as failsafe:
        assert failsafe.is_normal
        wait_until(lambda: len(sink.alerts) == 3)
    trigger, resolve, note = sink.alerts
    assert note.title == "trading: reset by FORCE, nothing is proven"
    assert (trigger.action, resolve.action) == (AlertAction.TRIGGER, AlertAction.RESOLVE)
    assert "FORCED although these checks failed: observation" in resolve.message


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("force", [False, True])
def test_a_reset_of_another_epoch_is_refused(store: Path, epoch: int, force: bool) -> None:
    offline.halt(store, actor="alice", reason="a rehearsal")
    with pytest.raises(ResetRefusedError, match=f"saw epoch {epoch}, the store is at 1"):
        offline.reset(store, actor="bob", reason="it is over", epoch=epoch, force=force)
    assert journal.check(store).state is State.FAIL_SAFE


def test_there_is_nothing_to_reset_in_normal(store: Path) -> None:
    with pytest.raises(ResetRefusedError, match="is not in fail-safe mode"):
        offline.reset(store, actor="bob", reason="why not", epoch=0, force=True)


def test_a_service_that_runs_follows_a_reset(store: Path) -> None:
    with FailSafe("trading", store=store, recovery=QUICK) as failsafe:
        failsafe.halt(actor="alice", reason="a rehearsal")
        offline.reset(store, actor="bob", reason="it is over", epoch=1, force=True)
        wait_until(lambda: failsafe.is_normal)


def test_a_service_whose_own_check_fails_does_not_follow_a_reset(store: Path) -> None:
    class Dead:
        name = "exchange"

        def probe(self) -> str:
            raise CriticalError("it is gone", kind="gone", outcome=Outcome.NOT_STARTED)

        def suspend(self, incident: object) -> None: ...

        def close(self) -> None: ...

    failsafe = FailSafe("trading", store=store, recovery=QUICK)
    failsafe.watch(Dead())
    with failsafe:
        assert failsafe.state is State.FAIL_SAFE
        offline.reset(store, actor="bob", reason="I hope", epoch=1, force=True)
        wait_until(lambda: failsafe.epoch == 2)
        assert failsafe.state is State.FAIL_SAFE


def test_a_reset_is_not_followed_on_what_was_seen_before_a_later_failure(store: Path) -> None:
    class Venue:
        name = "exchange"
        asked = 0

        def probe(self) -> str:
            self.asked += 1
            return "well"

        def suspend(self, incident: object) -> None: ...

        def close(self) -> None: ...

    venue, turn = Venue(), threading.Semaphore(1)
    rounds: list[int] = []
    followed: list[int] = []
    failsafe = FailSafe("trading", store=store, recovery=QUICK)
    failsafe.watch(venue)

    @failsafe.check
    def is_reconciled() -> bool:
        rounds.append(venue.asked)
        return turn.acquire(timeout=20)

    def note(event: Event) -> None:
        if isinstance(event, Followed):
            followed.append(venue.asked)

    failsafe.subscribe(note)
    with failsafe:
        offline.halt(store, actor="alice", reason="a rehearsal")
        wait_until(lambda: len(rounds) == 2)
        offline.reset(store, actor="bob", reason="it is over", epoch=1, force=True)
        turn.release()
        wait_until(lambda: len(rounds) == 3)
        offline.halt(store, actor="alice", reason="and again")
        offline.reset(store, actor="bob", reason="it is over", epoch=2, force=True)
        turn.release(2)
        wait_until(lambda: failsafe.is_normal and bool(followed))
        assert followed[0] > rounds[2]


# What the service saw last


def held(store: Path, *, looks: float = 0.1) -> FailSafe:
    """A service that runs and was halted."""
    recovery = Recovery(probe_interval=looks, consecutive=2)
    failsafe = FailSafe("trading", store=store, recovery=recovery)
    failsafe.start()
    failsafe.halt(actor="alice", reason="a rehearsal")
    return failsafe


def test_a_reset_rests_on_what_the_service_saw_just_now(store: Path) -> None:
    with contextlib.closing(held(store)) as failsafe:
        wait_until(lambda: offline.plan(store).is_allowed)
        _, overruled = offline.reset(store, actor="bob", reason="it is over", epoch=1)
        assert overruled == ()
        wait_until(lambda: failsafe.is_normal)
    row = next(row for row in events(store) if row["event"] == "Reset" and row["actor"] == "bob")
    assert row["failed"] == []
    evidence = row["evidence"]
    assert isinstance(evidence, list)
    assert {"observation", "store", "in doubt"} <= {each["name"] for each in evidence}


def test_what_the_service_saw_before_the_failure_proves_nothing(store: Path) -> None:
    with contextlib.closing(held(store, looks=60.0)):
        [why] = offline.plan(store).why
        assert "and a failure came since it began" in why
        with pytest.raises(ResetRefusedError):
            offline.reset(store, actor="bob", reason="it is over", epoch=1)


def test_what_a_dead_service_saw_is_soon_too_old(store: Path) -> None:
    failsafe = held(store, looks=0.05)
    wait_until(lambda: offline.plan(store).is_allowed)
    failsafe.close()
    wait_until(lambda: not offline.plan(store).is_allowed)
    [why] = offline.plan(store).why
    assert re.fullmatch(r"observation: the service looked \d\.\d s ago, which is too long", why)


def test_the_store_of_a_service_that_runs_well_is_operational(store: Path) -> None:
    with FailSafe("trading", store=store, recovery=QUICK):
        status = offline.status(store)
    assert status.is_operational
    assert status.checks[0].name == "store"
    assert status.warnings == ()


def test_a_service_that_is_gone_is_told(store: Path) -> None:
    assert "no process of the service looks here" in offline.status(store).recommendations[-1]


# In doubt


def test_a_persons_answer_is_journaled_and_told_by_the_next_service(store: Path) -> None:
    failsafe = FailSafe("trading", store=store)
    assert failsafe.report_in_doubt(doubt())
    failsafe.close()
    [open_] = journal.in_doubt(store)
    facts = {"actor": "alice", "reason": "it is in the books of the exchange"}
    assert offline.resolve(store, open_, Outcome.COMMITTED, **facts)
    assert journal.in_doubt(store) == ()
    row = events(store)[-1]
    assert (row["event"], row["outcome"]) == ("Resolved", "COMMITTED")
    assert {name: row[name] for name in facts} == facts
    told: list[tuple[str, Outcome]] = []
    sink = CapturingSink()
    failsafe = FailSafe("trading", store=store, sinks=[sink], recovery=QUICK)
    failsafe.on_resolved(lambda key, outcome: told.append((key, outcome)))
    with failsafe:
        wait_until(lambda: told == [("order-1", Outcome.COMMITTED)])
        wait_until(lambda: len(sink.alerts) == 1)
    assert "as alice says: it is in the books of the exchange" in sink.alerts[0].message


def test_a_second_answer_changes_nothing(store: Path) -> None:
    failsafe = FailSafe("trading", store=store)
    failsafe.report_in_doubt(doubt())
    failsafe.close()
    [open_] = journal.in_doubt(store)
    assert offline.resolve(store, open_, Outcome.COMMITTED)
    before = events(store)
    assert not offline.resolve(store, open_, Outcome.ROLLED_BACK, actor="bob", reason="no")
    assert events(store) == before


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.NOT_STARTED])
def test_what_is_no_answer_is_refused(store: Path, outcome: Outcome) -> None:
    with pytest.raises(ConfigurationError, match="COMMITTED or ROLLED_BACK"):
        offline.resolve(store, doubt(), outcome, actor="alice", reason="a guess")


def test_what_a_killed_process_left_in_doubt_is_seen_and_kept(store: Path) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_die_in_commit, args=(store,))
    child.start()
    child.join(20)
    [left] = journal.in_doubt(store)
    assert journal.check(store).in_doubt == 1
    assert left.key == "order-9"
    assert offline.plan(store).missing == ("observation", "in doubt")
    assert offline.resolve(store, left, Outcome.ROLLED_BACK, actor="alice", reason="I looked")
    assert journal.in_doubt(store) == ()
    assert [row["event"] for row in events(store)] == ["Doubted", "Resolved"]


def _die_in_commit(store: Path) -> None:
    with Commits(store).under_way(doubt("order-9"), lambda: False):
        os._exit(9)


# The report


def test_a_store_alone_is_never_operational(store: Path) -> None:
    status = offline.status(store)
    assert status.state is State.NORMAL
    assert not status.is_operational
    assert "the last observation is too old or missing" in status.reasons


def test_an_acknowledgement_without_the_service_ends_the_pages(store: Path) -> None:
    offline.halt(store, actor="alice", reason="a rehearsal")
    assert offline.acknowledge(store, actor="bob").acknowledged_by == "bob"
    assert events(store)[-1]["event"] == "Acknowledged"


def test_there_is_nothing_to_acknowledge_in_normal(store: Path) -> None:
    with pytest.raises(ConfigurationError, match="no open incident"):
        offline.acknowledge(store, actor="bob")
