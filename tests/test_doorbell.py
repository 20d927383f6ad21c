"""The doorbell: what one process of a host did is known to every other one at its next call."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import wait_until
from tests.workers.crew import Crew, crew

from failstop import FailSafe, Recovery, with_fail_fast_protection
from failstop._doorbell import SIZE, Doorbell
from failstop._storefile import StoreError
from failstop.errors import CriticalError, OperationsSuspendedError
from failstop.events import Incident
from failstop.testing import PostgresDatabase

NOBODY = 65534
HOURLY = Recovery(probe_interval=3600.0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "failstop.db"
    path.touch()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "failstop.db"


@pytest.fixture
def workers(path: Path) -> Iterator[Crew]:
    with crew(path) as made:
        yield made


@pytest.fixture
def pair(path: Path) -> Iterator[tuple[FailSafe, FailSafe]]:
    """Two services on one store that look once an hour, so that only the doorbell tells."""
    settings: dict[str, Any] = {"store": path, "recovery": HOURLY}
    with FailSafe("api", **settings) as one, FailSafe("api", **settings) as other:
        assert one.is_normal
        assert other.is_normal
        yield one, other


def page_of(store: Path) -> Path:
    return store.with_name(f"{store.name}-doorbell")


def rung(store: Path) -> Doorbell:
    bell = Doorbell(store)
    bell.open()
    return bell


# The page


def test_a_ring_changes_the_word_of_everybody_else(store: Path) -> None:
    one, other = rung(store), rung(store)
    before = other.word[0]
    one.ring()
    assert other.word[0] != before
    assert other.rings
    assert not one.rings, "whoever rang knows why"


def test_a_ring_between_two_looks_is_never_taken_for_none(store: Path) -> None:
    one, other, third = rung(store), rung(store), rung(store)
    one.ring()
    third.heard = third.word[0]
    other.ring()
    one.ring()
    assert third.rings


def test_a_page_has_the_rights_of_its_store(store: Path) -> None:
    store.chmod(0o640)
    rung(store)
    assert page_of(store).stat().st_mode & 0o777 == 0o640
    assert page_of(store).stat().st_size == SIZE
    assert sorted(each.name for each in store.parent.iterdir()) == [store.name, page_of(store).name]


def test_a_note_is_read_whole_or_not_at_all(store: Path) -> None:
    one, other = rung(store), rung(store)
    assert other.note() is None
    one.post(b"all is well")
    assert other.note() == b"all is well"
    with page_of(store).open("r+b") as file, mmap.mmap(file.fileno(), SIZE) as page:
        place = page.find(b"well")
        page[place : place + 4] = b"bad!"
    assert other.note() is None


def test_a_note_that_is_too_long_is_refused(store: Path) -> None:
    with pytest.raises(StoreError, match="has no room"):
        rung(store).post(b"x" * SIZE)


@pytest.mark.parametrize("content", [b"", b"something else", b"x" * SIZE])
def test_a_file_that_is_no_page_is_refused(store: Path, content: bytes) -> None:
    page_of(store).write_bytes(content)
    with pytest.raises(StoreError, match="is no doorbell") as raised:
        rung(store)
    assert raised.value.kind == "doorbell_corrupt"
    assert page_of(store).read_bytes() == content


def test_a_page_that_was_replaced_is_told_once_and_then_used(store: Path) -> None:
    one, other = rung(store), rung(store)
    page_of(store).unlink()
    for bell in (one, other):
        with pytest.raises(StoreError, match="was removed or replaced") as raised:
            bell.require_in_place()
        assert raised.value.kind == "doorbell_replaced"
        bell.require_in_place()
    one.ring()
    assert other.rings


# With a FailSafe


def test_a_trip_is_seen_by_the_next_call_of_another(pair: tuple[FailSafe, FailSafe]) -> None:
    one, other = pair
    incident = one.trip(CriticalError("gone"))
    with pytest.raises(OperationsSuspendedError):
        other.require()
    assert other.incident == incident
    assert other.epoch == one.epoch


def test_a_halt_is_seen_by_a_protected_call(pair: tuple[FailSafe, FailSafe]) -> None:
    one, other = pair
    calls: list[int] = []
    handler = with_fail_fast_protection(failsafe=other, respond="raise")(lambda: calls.append(1))
    handler()
    one.halt(actor="ann", reason="odd fills")
    with pytest.raises(OperationsSuspendedError):
        handler()
    assert calls == [1]


async def test_a_halt_is_seen_by_a_protected_coroutine(pair: tuple[FailSafe, FailSafe]) -> None:
    one, other = pair
    calls: list[int] = []

    @with_fail_fast_protection(failsafe=other, respond="raise")
    async def handler() -> None:
        calls.append(1)

    one.halt(actor="ann", reason="odd fills")
    with pytest.raises(OperationsSuspendedError):
        await handler()
    assert calls == []


def test_a_trip_that_is_over_already_changes_the_epoch(pair: tuple[FailSafe, FailSafe]) -> None:
    """Work that was open at a trip does not commit, though all is well again when it looks."""
    one, other = pair
    before = other.epoch
    one.trip(CriticalError("gone"))
    one.reset(actor="ann", reason="back", force=True)
    assert other.is_normal
    assert other.epoch == before + 1


class Watched:
    name = "venue"

    def __init__(self) -> None:
        self.suspended: list[Incident] = []

    def probe(self) -> str:
        return "well"

    def suspend(self, incident: Incident) -> None:
        self.suspended.append(incident)

    def close(self) -> None: ...


def test_whoever_hears_of_a_trip_aborts_what_is_in_flight(pair: tuple[FailSafe, FailSafe]) -> None:
    one, other = pair
    watched = Watched()
    other.watch(watched)
    incident = one.trip(CriticalError("gone"))
    assert not other.is_normal
    assert watched.suspended == [incident]


def test_a_store_that_cannot_be_read_when_it_rings_trips(
    pair: tuple[FailSafe, FailSafe], path: Path
) -> None:
    _, other = pair
    rung(path).ring()
    path.rename(path.with_suffix(".away"))
    path.write_bytes(b"not a store at all")
    other._keeper.store._file._drop()
    with pytest.raises(OperationsSuspendedError):
        other.require()
    assert other.incident is not None
    assert other.incident.kind == "store_replaced"


def test_a_ring_that_tells_nothing_new_stops_nobody(
    pair: tuple[FailSafe, FailSafe], path: Path
) -> None:
    _, other = pair
    rung(path).ring()
    other.require()
    assert other.doorbell.word[0] == other.doorbell.heard


def test_a_page_that_cannot_be_mapped_means_fail_safe(path: Path) -> None:
    page_of(path).write_bytes(b"something else")
    with FailSafe("api", store=path, recovery=HOURLY) as failsafe:
        assert not failsafe.is_normal
        assert failsafe.incident is not None
        assert failsafe.incident.kind == "doorbell_corrupt"
        assert "remove it" in failsafe.incident.action


def test_a_page_that_is_removed_trips_and_recovers_with_a_new_one(path: Path) -> None:
    recovery = Recovery(probe_interval=0.02, consecutive=2)
    kinds: list[str] = []
    with FailSafe("api", store=path, recovery=recovery) as failsafe:
        failsafe.subscribe(
            lambda event: kinds.append(event.incident.kind) if hasattr(event, "incident") else None
        )
        page_of(path).unlink()
        wait_until(lambda: "doorbell_replaced" in kinds)
        wait_until(lambda: failsafe.is_normal)
        assert page_of(path).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root to lose them")
def test_a_process_that_may_not_write_the_page_is_in_fail_safe(path: Path) -> None:
    FailSafe("trading-api", store=path).close()
    for directory in (path.parent, *path.parent.parents):
        if not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o055)
    os.chown(path.parent, NOBODY, NOBODY)
    os.chown(path, NOBODY, NOBODY)
    code = """
        import os, sys
        from failstop import FailSafe, _keeper
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        failsafe = FailSafe("trading-api", store=sys.argv[1])
        failsafe.start()
        print(failsafe.state, failsafe.incident.kind, failsafe.incident.action, sep="|")
        failsafe.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    state, kind, action = done.stdout.strip().split("|")
    assert (state, kind) == ("FAIL_SAFE", "doorbell_unreachable")
    assert "the right to write" in action


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_gives_the_page_to_the_owner_of_the_store(store: Path) -> None:
    os.chown(store, NOBODY, NOBODY)
    rung(store)
    assert page_of(store).stat().st_uid == NOBODY


# With processes


def test_no_call_that_began_after_a_trip_in_another_process_passes(workers: Crew) -> None:
    one, *others = workers.hire(8, probe_interval=60.0)
    assert sum(hand.is_elected for hand in (one, *others)) == 1
    for hand in others:
        hand.ask("call")
    wait_until(lambda: all(hand.ask("require") for hand in others))
    at = one.ask("trip")
    wait_until(lambda: not any(hand.ask("require") for hand in others))
    for hand in others:
        calls = hand.ask("calls")
        assert calls["count"] > 0
        assert calls["last"] < at, "a call that began after the trip had returned has passed"


def test_a_worker_that_starts_during_an_incident_starts_tripped(workers: Crew) -> None:
    (one,) = workers.hire(1, probe_interval=60.0)
    one.ask("halt")
    (late,) = workers.hire(1, probe_interval=60.0)
    found = late.ask("state")
    assert (found["state"], found["kind"]) == ("FAIL_SAFE", "halt")
    assert not late.ask("require")


def test_work_in_flight_in_another_process_is_aborted(
    workers: Crew, postgres: PostgresDatabase
) -> None:
    one, other = workers.hire(2, postgres.url(), probe_interval=60.0)
    other.ask("transact")
    wait_until(lambda: "began" in other.ask("working"))
    at = one.ask("trip")
    wait_until(lambda: "ended" in other.ask("working"))
    work = other.ask("working")
    assert work["error"] == "OperationsSuspendedError"
    assert work["ended"] - at < 2.0, "it was not waited for"
