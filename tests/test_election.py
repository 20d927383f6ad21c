"""The election: one process of a host asks the dependencies, and the others are never blind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import wait_until
from tests.workers.crew import Crew, Hand, crew

from failstop import FailSafe, Recovery
from failstop._doorbell import Doorbell
from failstop._process import this_clock
from failstop.errors import CriticalError, DatabaseUnavailableError
from failstop.events import CheckResult, Event, Incident, Reset
from failstop.recovery import _election
from failstop.recovery._election import Election, Observation, read_observation
from failstop.recovery._monitor import Check, Round
from failstop.testing import PostgresDatabase, PostgresServer

FAST = Recovery(probe_interval=0.02, consecutive=2)
NOW = datetime.now(UTC)
WELL = CheckResult("venue", True, "well", NOW, 0.001)


class Venue:
    """A dependency that counts how often it was asked."""

    def __init__(self, name: str = "venue") -> None:
        self.name = name
        self.asked = 0
        self.is_well = True

    def probe(self) -> str:
        self.asked += 1
        if not self.is_well:
            raise DatabaseUnavailableError("the venue is gone", kind="refused")
        return "well"

    def suspend(self, incident: Incident) -> None: ...

    def close(self) -> None: ...


Hire = Callable[..., tuple[FailSafe, Venue]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "failstop.db"


@pytest.fixture
def hire(path: Path) -> Iterator[Hire]:
    """Start a service that watches a venue; all of them share a store."""
    made: list[FailSafe] = []

    def hire_one(name: str = "venue", **settings: Any) -> tuple[FailSafe, Venue]:
        failsafe = FailSafe("api", **{"store": path, "recovery": FAST, **settings})
        venue = Venue(name)
        failsafe.watch(venue)
        made.append(failsafe)
        failsafe.start()
        return failsafe, venue

    yield hire_one
    for failsafe in made:
        failsafe.close()


@pytest.fixture
def workers(path: Path) -> Iterator[Crew]:
    with crew(path) as made:
        yield made


def rounds(failsafe: FailSafe, count: int) -> None:
    """Wait until `failsafe` has made `count` further rounds."""
    seen: list[Event] = []
    end = failsafe.subscribe(seen.append)
    wait_until(lambda: len([each for each in seen if type(each).__name__ == "Checked"]) >= count)
    end()


# One asks, the others follow


def test_one_process_asks_and_the_others_take_over_what_it_saw(hire: Hire) -> None:
    (_, asked), *others = hire(), hire(), hire()
    for failsafe, _ in others:
        rounds(failsafe, 2)
    before = [venue.asked for _, venue in others]
    at = asked.asked
    for failsafe, _ in others:
        rounds(failsafe, 10)
    assert asked.asked > at
    assert [venue.asked for _, venue in others] == before
    for failsafe, _ in others:
        status = failsafe.status()
        assert status.is_operational
        assert {check.name: check.detail for check in status.checks}["venue"] == "well"
        assert status.age is not None


def test_a_service_that_starts_asks_for_itself(hire: Hire) -> None:
    hire()
    _, venue = hire()
    assert venue.asked >= 1


def test_a_round_that_is_asked_for_is_made_here(hire: Hire) -> None:
    hire()
    other, venue = hire()
    before = venue.asked
    other.plan_reset()
    assert venue.asked > before


def test_what_the_elected_one_does_not_watch_is_asked_here(hire: Hire) -> None:
    one, _ = hire()
    other, broker = hire("broker")
    before = broker.asked
    rounds(other, 3)
    assert broker.asked >= before + 3
    broker.is_well = False
    wait_until(lambda: not other.is_normal)
    wait_until(lambda: not one.is_normal)


def test_without_a_store_everybody_asks(hire: Hire) -> None:
    one, first = hire(store=None)
    other, second = hire(store=None)
    before = first.asked, second.asked
    rounds(one, 3)
    rounds(other, 3)
    assert first.asked > before[0]
    assert second.asked > before[1]


def test_the_place_is_free_when_its_holder_is_closed(hire: Hire) -> None:
    one, _ = hire()
    other, venue = hire()
    rounds(other, 2)
    before = venue.asked
    one.close()
    wait_until(lambda: venue.asked > before)


# Recovery


def test_a_follower_comes_back_when_the_elected_one_has_proven_it_and_not_before(
    hire: Hire,
) -> None:
    one, venue = hire(recovery=Recovery(probe_interval=0.02, consecutive=20))
    other, _ = hire(recovery=Recovery(probe_interval=0.02, consecutive=1))
    left: list[tuple[str, int]] = []
    for failsafe, name in ((one, "one"), (other, "other")):
        failsafe.subscribe(
            lambda event, name=name: (
                left.append((name, venue.asked))  # type: ignore[misc]
                if isinstance(event, Reset)
                else None
            )
        )
    asked = venue.asked
    one.trip(CriticalError("gone"))
    wait_until(lambda: len(left) == 2)
    assert [name for name, _ in left] == ["one", "other"]
    assert all(count >= asked + 20 for _, count in left)


def test_a_follower_that_missed_failed_rounds_comes_back_too(hire: Hire) -> None:
    """They raise the store's revision, and the reset that comes after them does not."""
    one, _ = hire()
    gate, asked = threading.Event(), threading.Event()

    def looks() -> bool:
        asked.set()
        return gate.wait(20)

    recovery = Recovery(probe_interval=0.02, checks=[looks], check_timeout=30.0)
    gate.set()
    other, _ = hire(recovery=recovery)
    gate.clear()
    asked.clear()
    one.halt(actor="ann", reason="a test")
    assert asked.wait(20), "a round of the follower is under way"
    one._keeper.void_evidence()
    one._keeper.void_evidence()
    one.reset(actor="ann", reason="a test")
    gate.set()
    wait_until(lambda: other.is_normal)
    assert not other._rounds.election.is_elected


def test_what_was_seen_before_a_failure_proves_nothing(path: Path) -> None:
    seen = Observation("p", 4, time.monotonic(), NOW, 0.1, (WELL,), None)
    checks = [Check("store", lambda: ""), Check("venue", lambda: "", is_shared=True)]
    own = Round(7, (CheckResult("store", True, "read", NOW, 0.0),), None, 0.0, NOW)
    assert seen.joined(own, checks, 4).revision == 7
    assert seen.joined(own, checks, 5).revision == _election.VOID
    assert [each.name for each in seen.joined(own, checks, 4).results] == ["store", "venue"]


def test_only_what_finds_the_same_everywhere_is_taken_over() -> None:
    seen = Observation("p", 4, 0.0, NOW, 0.1, (WELL, CheckResult("store", True, "", NOW, 0)), None)
    checks = [
        Check("store", lambda: ""),
        Check("venue", lambda: "", is_shared=True),
        Check("broker", lambda: "", is_shared=True),
    ]
    assert [each.name for each in seen.left(checks)] == ["store", "broker"]


def test_a_critical_failure_that_the_elected_one_cannot_write_trips_the_others(
    hire: Hire, path: Path
) -> None:
    """Its store may be full; the others read what it saw from the page."""
    one, _ = hire(recovery=Recovery(probe_interval=3600.0))
    other, _ = hire()
    assert one._rounds.election.is_elected
    failed = CheckResult("venue", False, "gone", NOW, 0.0)
    error = DatabaseUnavailableError("the venue is gone", kind="refused")
    done = Round(0, (failed,), error, time.monotonic(), NOW)
    one._rounds.election.publish(done, one._keeper._seen_revision)
    wait_until(lambda: not other.is_normal)
    assert other.incident is not None
    assert (other.incident.kind, other.incident.error_code) == ("refused", "DB_UNAVAILABLE")


def test_what_only_a_follower_was_told_holds_the_recovery_of_the_host(
    workers: Crew, postgres: PostgresDatabase
) -> None:
    """The elected one cannot know of a commit that was acknowledged to another and is lost."""
    (one,) = workers.hire(1, postgres.url(), consecutive=20)
    (other,) = workers.hire(1, postgres.url(), consecutive=20)
    assert one.is_elected
    key = other.ask("commit")
    postgres.execute(f"DELETE FROM failstop.receipt WHERE key = '{key}'")
    one.ask("trip")
    wait_until(lambda: one.ask("state")["needs_person"])
    found = other.ask("state")
    assert found["checks"]["database, acknowledged here"] is False
    assert found["checks"]["database"] is True, "what the elected one saw"


# What an observation is worth


@pytest.fixture
def bell(path: Path) -> Doorbell:
    path.touch()
    made = Doorbell(path)
    made.open()
    return made


@pytest.fixture
def elected(bell: Doorbell) -> Iterator[Election]:
    election = Election(bell, freshness=1.0)
    assert election.stand()
    yield election
    election.resign()


def posted(elected: Election, bell: Doorbell, **changes: object) -> Observation | None:
    """Return what others read of a round, with some facts of it changed."""
    elected.publish(Round(0, (WELL,), None, time.monotonic(), NOW), 3)
    note = bell.note()
    assert note is not None
    bell.post(json.dumps({**json.loads(note), **changes}).encode())
    return Election(bell, freshness=1.0).observation()


def test_an_observation_is_read_as_it_was_made(elected: Election, bell: Doorbell) -> None:
    error = CriticalError("gone", kind="lost")
    error.action = "look"
    done = Round(0, (WELL,), error, time.monotonic(), NOW, 0.25)
    elected.publish(done, 3)
    seen = Election(bell, freshness=1.0).observation()
    assert seen is not None
    assert (seen.revision, seen.results, seen.at, seen.took) == (3, (WELL,), done.ended, 0.25)
    found = seen.joined(Round(0, (), None, 0.0, NOW), [], 3).error
    assert found is not None
    assert (found.kind, found.message, found.action) == ("lost", "gone", "look")


def test_an_observation_of_another_boot_is_void(elected: Election, bell: Doorbell) -> None:
    assert posted(elected, bell) is not None
    assert posted(elected, bell, clock="another boot") is None
    assert read_observation(bell) is None


@pytest.mark.parametrize("age", [1.5, -0.5])
def test_an_observation_that_is_too_old_or_from_later_says_nothing(
    elected: Election, bell: Doorbell, age: float
) -> None:
    assert posted(elected, bell, at=time.monotonic() - age) is None
    assert read_observation(bell) is not None, "how old it is can still be shown"


@pytest.mark.parametrize("changes", [{"results": [{"name": "x"}]}, {"revision": None}])
def test_an_observation_of_another_version_says_nothing(
    elected: Election, bell: Doorbell, changes: dict[str, object]
) -> None:
    assert posted(elected, bell, **changes) is None


def test_where_the_clock_is_not_known_nobody_follows(
    elected: Election, bell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert this_clock() is not None
    monkeypatch.setattr(_election, "this_clock", lambda: None)
    elected.publish(Round(0, (WELL,), None, time.monotonic(), NOW), 3)
    assert bell.note() is None


# The place


def test_two_never_hold_the_place(bell: Doorbell, elected: Election) -> None:
    other = Election(bell, freshness=1.0)
    assert not other.stand()
    assert elected.stand()
    elected.resign()
    assert other.stand()
    assert not elected.stand()
    other.resign()


def test_a_place_on_a_page_that_was_removed_is_none(bell: Doorbell, elected: Election) -> None:
    assert bell.path is not None
    bell.path.unlink()
    assert not elected.stand()


def elected_of(hands: list[Hand]) -> list[Hand]:
    return [hand for hand in hands if hand.is_elected]


def test_the_next_one_has_the_place_of_a_killed_worker_within_two_intervals(workers: Crew) -> None:
    hands = workers.hire(4, probe_interval=1.0)
    (holder,) = elected_of(hands)
    others = [hand for hand in hands if hand is not holder]
    holder.kill()
    at = time.monotonic()
    wait_until(lambda: len(elected_of(others)) == 1)
    assert time.monotonic() - at <= 2.0
    assert all(hand.ask("require") for hand in others)


def test_a_child_of_the_holder_does_not_keep_the_place(workers: Crew) -> None:
    (holder,) = workers.hire(1)
    (other,) = workers.hire(1)
    assert holder.is_elected
    child = holder.ask("fork")
    try:
        assert not other.is_elected
        holder.kill()
        wait_until(lambda: other.is_elected)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def freeze_between_writes(hand: Hand, store: Path) -> None:
    """Freeze a worker that holds no lock of the store, whose others could then write nothing."""
    while True:
        hand.freeze()
        with closing(sqlite3.connect(store, timeout=0.2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                hand.thaw()
            else:
                return


def test_a_holder_that_is_frozen_leaves_nobody_blind(
    workers: Crew, path: Path, breakable_postgres: PostgresServer
) -> None:
    """It holds the place and says nothing: the others look for themselves."""
    url = breakable_postgres.url()
    (holder,) = workers.hire(1, url)
    (other,) = workers.hire(1, url)
    assert holder.is_elected
    freeze_between_writes(holder, path)
    frozen = time.monotonic()
    wait_until(lambda: other.ask("state")["age"] < time.monotonic() - frozen)
    assert other.ask("require"), f"that alone is no failure: {other.ask('state')}"
    assert not other.is_elected
    breakable_postgres.kill()
    wait_until(lambda: not other.ask("require"))
    breakable_postgres.start()
    wait_until(lambda: other.ask("require"), 60)
    assert not other.is_elected, "its recovery was its own"


def test_a_frozen_database_is_told_as_such_and_not_as_silence(
    workers: Crew, breakable_postgres: PostgresServer
) -> None:
    hands = workers.hire(2, breakable_postgres.url(), round_timeout=60.0)
    breakable_postgres.freeze()
    wait_until(lambda: not any(hand.ask("require") for hand in hands), 60)
    kinds = {hand.ask("state")["kind"] for hand in hands}
    breakable_postgres.thaw()
    assert len(kinds) == 1
    assert not kinds & {"monitor_silent", "check_hung"}
