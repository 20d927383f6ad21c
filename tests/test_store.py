"""The store: what lasts, what processes share, and what happens where it cannot be used."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.forking import exit_code

from failstop import FailSafe, _keeper
from failstop._doorbell import Doorbell
from failstop._latch import State
from failstop.alerts import AlertAction
from failstop.errors import ConfigurationError, DatabaseUnavailableError, ResetRefusedError
from failstop.events import Checked, Event, Reset, Tripped
from failstop.journal import check, rows, verify
from failstop.recovery import Recovery
from failstop.testing import CapturingSink

FAST = Recovery(probe_interval=0.02, consecutive=2)
MANUAL = Recovery(mode="manual", probe_interval=0.02)
SLOW = Recovery(probe_interval=60.0)


def wait_until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.005)


def wait_for_rounds(failsafe: FailSafe, count: int = 2) -> None:
    """Wait until `count` more check rounds were made: with two, one began after this call."""
    seen = list[Checked]()

    def note(event: Event) -> None:
        if isinstance(event, Checked):
            seen.append(event)

    end = failsafe.subscribe(note)
    wait_until(lambda: len(seen) >= count)
    end()


def gone() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("the server is gone", kind="refused")


Make = Callable[..., FailSafe]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "failstop.db"


@pytest.fixture
def make(path: Path) -> Iterator[Make]:
    made: list[FailSafe] = []

    def make_one(**settings: Any) -> FailSafe:
        failsafe = FailSafe("api", **{"store": path, "recovery": SLOW, **settings})
        made.append(failsafe)
        return failsafe

    yield make_one
    for failsafe in made:
        failsafe.close()


def events_of(path: Path) -> list[str]:
    return [row.facts["event"] for row in rows(path)]


def kind_of(failsafe: FailSafe) -> str | None:
    return failsafe.incident.kind if failsafe.incident else None


# Lasting


def test_a_service_that_was_tripped_starts_tripped_with_its_incident(make: Make) -> None:
    first = make(recovery=MANUAL)
    first.start()
    tripped = first.trip(gone())
    first.trip(gone())
    first.close()
    second = make(recovery=MANUAL)
    assert second.state is State.FAIL_SAFE
    assert second.epoch == 1
    assert second.incident is not None
    assert tripped is not None
    assert second.incident.incident_id == tripped.incident_id
    assert (second.incident.occurrences, second.incident.kind) == (2, "refused")
    second.start()
    assert not second.is_normal


def test_a_halt_survives_a_restart_and_still_waits_for_a_person(make: Make) -> None:
    first = make()
    first.start()
    first.halt(actor="ann", reason="odd fills")
    first.close()
    second = make(recovery=Recovery(probe_interval=0.01, consecutive=1))
    second.start()
    wait_until(lambda: second.state is State.RECOVERING)
    wait_for_rounds(second)
    assert second.state is State.RECOVERING
    second.reset(actor="ann", reason="explained")
    third = make()
    third.start()
    assert third.is_normal
    assert third.epoch == 1


def test_a_kill_right_after_the_trip_loses_nothing(path: Path) -> None:
    """The trip is in the file when trip() has returned, whatever happens to the process then."""
    code = """
        import os, sys
        from failstop import FailSafe, _keeper
        from failstop.errors import DatabaseUnavailableError
        failsafe = FailSafe("api", store=sys.argv[1])
        failsafe.start()
        failsafe.trip(DatabaseUnavailableError("gone", kind="refused"))
        os._exit(9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=False)
    assert done.returncode == 9
    report = check(path)
    assert report.is_sound
    assert (report.state, report.epoch) == (State.FAIL_SAFE, 1)


def test_a_store_in_memory_says_so(make: Make) -> None:
    failsafe = make(store=None)
    failsafe.start()
    status = failsafe.status()
    assert not status.is_durable
    assert any("store" in advice for advice in status.recommendations)


def test_the_journal_tells_the_whole_story(make: Make, path: Path) -> None:
    sink = CapturingSink()
    failsafe = make(sinks=[sink])
    failsafe.start()
    failsafe.trip(gone())
    failsafe.halt(actor="ann", reason="drill")
    failsafe.acknowledge(actor="bob")
    assert failsafe.flush(10)
    failsafe.reset(actor="ann", reason="done")
    failsafe.close()
    story = [event for event in events_of(path) if event not in ("AlertDelivered", "Checked")]
    assert story == ["Verified", "Tripped", "Halted", "Acknowledged", "Recovering", "Reset"]
    facts = [row.facts for row in rows(path)]
    reset = next(each for each in facts if each["event"] == "Reset")
    assert (reset["actor"], reset["reason"]) == ("ann", "done")
    assert [result["name"] for result in reset["evidence"]] == ["store", "in doubt"]
    assert events_of(path).count("AlertDelivered") == 4
    assert verify(path).is_intact


def test_refused_calls_are_one_row_and_one_page(make: Make, path: Path) -> None:
    sink = CapturingSink()
    failsafe = make(sinks=[sink])
    failsafe.start()
    failsafe.trip(gone())
    size = path.stat().st_size
    for _ in range(100_000):
        with contextlib.suppress(Exception):
            failsafe.require()
    failsafe.close()
    counted = [row.facts["count"] for row in rows(path) if row.facts["event"] == "Refused"]
    assert counted == [100_000]
    assert [alert.action for alert in sink.alerts] == [AlertAction.TRIGGER]
    assert path.stat().st_size < size + 200_000


def test_counted_failures_are_few_rows_with_the_right_sum(make: Make, path: Path) -> None:
    failsafe = make()
    failsafe.start()
    for _ in range(500):
        failsafe.trip(gone())
    failsafe.close()
    counted = [row.facts for row in rows(path) if row.facts["event"] == "FailureCounted"]
    assert sum(each["count"] for each in counted) == 499
    assert len(counted) < 5
    report = check(path)
    assert report.incident is not None
    assert report.incident.occurrences == 500


def test_check_results_are_journaled_when_they_change_only(make: Make, path: Path) -> None:
    failsafe = make(recovery=Recovery(probe_interval=0.005))
    failsafe.start()
    wait_for_rounds(failsafe, 20)
    failsafe.close()
    assert events_of(path).count("Checked") == 1


# Sharing


def test_a_trip_in_one_process_stops_the_other_within_a_round(make: Make) -> None:
    one, other, events = make(recovery=MANUAL), make(recovery=MANUAL), list[Event]()
    one.start()
    other.start()
    other.subscribe(events.append)
    incident = one.trip(gone())
    wait_until(lambda: any(isinstance(event, Tripped) for event in events))
    assert not other.is_normal
    assert other.incident == incident
    assert other.epoch == one.epoch
    assert [event.incident for event in events if isinstance(event, Tripped)] == [incident]


def test_failures_in_two_processes_are_one_incident_with_one_page(make: Make) -> None:
    sink = CapturingSink()
    one, other = make(sinks=[sink]), make(sinks=[sink])
    one.start()
    other.start()
    first, second = gone(), gone()
    one.trip(first)
    other.trip(second)
    assert first.incident_id == second.incident_id
    assert other.incident is not None
    assert other.incident.occurrences == 2
    assert one.flush(10)
    assert [alert.action for alert in sink.alerts] == [AlertAction.TRIGGER]
    assert one.epoch == other.epoch == 1


def test_a_reset_in_one_process_frees_the_other(make: Make) -> None:
    one, other, events = make(recovery=MANUAL), make(recovery=MANUAL), list[Event]()
    one.start()
    other.start()
    other.subscribe(events.append)
    one.trip(gone())
    wait_until(lambda: not other.is_normal)
    one.reset(actor="ann", reason="done")
    wait_until(lambda: any(isinstance(event, Reset) for event in events))
    assert other.is_normal
    assert [event.actor for event in events if isinstance(event, Reset)] == ["ann"]
    one.require()


def test_a_process_that_fails_holds_the_recovery_of_the_others_back(make: Make) -> None:
    """One worker's evidence is not enough while another worker sees the dependency fail."""
    is_well = False

    def broker() -> bool:
        return is_well

    one = make(recovery=Recovery(probe_interval=0.05, consecutive=20))
    is_well = True
    other = make(recovery=Recovery(probe_interval=0.005, consecutive=2, checks=[broker]))
    one.start()
    other.start()
    is_well = False
    one.trip(gone())
    wait_until(lambda: not other.is_normal)
    wait_for_rounds(one, 24)
    assert not one.is_normal
    is_well = True
    wait_until(lambda: one.is_normal and other.is_normal)
    assert one.epoch == 1


@pytest.fixture
def no_doorbell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that die before they ring: whoever looks late has missed what they did."""
    monkeypatch.setattr(Doorbell, "ring", lambda _: None)


@pytest.mark.usefixtures("no_doorbell")
def test_a_stale_process_never_reuses_an_epoch_or_an_incident(make: Make) -> None:
    """It missed a trip and its reset: its own trip is a new incident all the same."""
    one, stale = make(), make()
    one.start()
    stale.start()
    first = one.trip(gone())
    one.reset(actor="ann", reason="done")
    second = stale.trip(gone())
    assert first is not None
    assert second is not None
    assert second.incident_id != first.incident_id
    assert (stale.epoch, second.epoch) == (2, 2)


@pytest.mark.usefixtures("no_doorbell")
def test_a_stale_process_that_counts_a_failure_reopens_what_another_closed(make: Make) -> None:
    one, stale = make(), make()
    one.start()
    stale.start()
    one.trip(gone())
    stale.trip(gone())
    one.reset(actor="ann", reason="done")
    stale.trip(gone())
    assert not stale.is_normal
    stale.plan_reset()
    assert check_of(stale).state is State.FAIL_SAFE


def check_of(failsafe: FailSafe) -> Any:
    path = failsafe._keeper.store._file.path
    assert path is not None
    return check(path)


def test_a_store_belongs_to_one_service(make: Make, path: Path) -> None:
    make().start()
    with pytest.raises(ConfigurationError, match="belongs to the service 'api'"):
        FailSafe("other", store=path)


# Where it cannot be read or written


@pytest.mark.parametrize("store", ["", 7, b""])
def test_a_store_is_a_path(store: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be the path of a file"):
        FailSafe("api", store=store)


def test_a_store_is_no_directory_and_is_in_one_that_exists(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory"):
        FailSafe("api", store=tmp_path)
    with pytest.raises(ConfigurationError, match="does not exist; make it first"):
        FailSafe("api", store=tmp_path / "missing" / "failstop.db")


def damage_nothing_left(path: Path) -> None:
    path.write_bytes(b"")


def damage_no_sqlite(path: Path) -> None:
    path.write_bytes(b"these are not the bytes of a database" * 200)


def damage_other_database(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE standing (id INTEGER)")


def damage_newer(path: Path) -> None:
    change(path, "PRAGMA user_version = 99")


def damage_unknown_state(path: Path) -> None:
    change(path, "UPDATE standing SET state = 'FINE'")


def damage_normal_with_incident(path: Path) -> None:
    change(path, "UPDATE standing SET incident = '{}'")


def damage_negative_epoch(path: Path) -> None:
    change(path, "UPDATE standing SET epoch = -1")


def damage_no_standing(path: Path) -> None:
    change(path, "DELETE FROM standing")


def damage_cut_journal(path: Path) -> None:
    change(
        path,
        "DROP TRIGGER journal_is_never_cut",
        "DELETE FROM journal WHERE seq = (SELECT MAX(seq) FROM journal)",
    )


def damage_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(100, len(content), 512):
        content[place : place + 256] = os.urandom(256)
    path.write_bytes(bytes(content))


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__[7:])
def test_a_damaged_store_means_fail_safe_says_what_to_do_and_is_left_as_it_is(
    make: Make, path: Path, damage: Callable[[Path], None]
) -> None:
    with FailSafe("api", store=path):
        pass
    damage(path)
    before = path.read_bytes()
    sink = CapturingSink()
    failsafe = make(sinks=[sink], recovery=Recovery(probe_interval=0.01, consecutive=1))
    failsafe.start()
    assert failsafe.state is State.FAIL_SAFE
    assert kind_of(failsafe) in ("store_corrupt", "store_newer")
    assert sink.wait_for(1)[0].action is AlertAction.TRIGGER
    wait_for_rounds(failsafe)
    assert failsafe.state is State.FAIL_SAFE
    with pytest.raises(ResetRefusedError):
        failsafe.reset(actor="ann", reason="never mind", force=True)
    status = failsafe.status()
    assert status.store_error is not None
    assert any(word in status.store_error for word in ("put back", "install"))
    failsafe.close()
    assert path.read_bytes() == before


def test_a_store_that_is_removed_while_it_runs_trips_and_is_not_made_again(
    make: Make, path: Path
) -> None:
    failsafe = make(recovery=FAST)
    failsafe.start()
    path.unlink()
    wait_until(lambda: kind_of(failsafe) == "store_replaced")
    assert not path.exists()
    wait_for_rounds(failsafe)
    assert failsafe.state is State.FAIL_SAFE


def test_a_store_that_is_replaced_while_it_runs_trips(make: Make, path: Path) -> None:
    failsafe = make(recovery=FAST)
    failsafe.start()
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)
    wait_until(lambda: kind_of(failsafe) == "store_replaced")


def test_a_trip_is_not_lost_nor_delayed_while_another_process_locks_the_store(
    make: Make, path: Path
) -> None:
    """Memory first, the page goes out from memory, and the store gets it all afterwards."""
    sink = CapturingSink()
    failsafe = make(sinks=[sink])
    failsafe.start()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        incident = failsafe.trip(gone())
        assert time.monotonic() - began < 5.0
        assert incident is not None
        assert failsafe.state is State.FAIL_SAFE
        assert sink.wait_for(1)[0].incident_id == incident.incident_id
        status = failsafe.status()
        assert status.store_error is not None
        assert "is locked" in status.store_error
        with pytest.raises(ResetRefusedError):
            failsafe.reset(actor="ann", reason="hope", force=True)
        other.execute("ROLLBACK")
    failsafe.plan_reset()
    report = check(path)
    assert report.is_sound
    assert report.incident is not None
    assert report.incident.incident_id == incident.incident_id
    failsafe.reset(actor="ann", reason="done")
    assert failsafe.flush(10)
    assert [alert.action for alert in sink.alerts] == [AlertAction.TRIGGER, AlertAction.RESOLVE]


def test_a_trip_from_memory_that_turns_out_to_be_part_of_another_closes_its_page(
    make: Make, path: Path
) -> None:
    """The file could not be read at the start, and held an incident: one page stays, not two."""
    first = make()
    first.start()
    held = first.halt(actor="ann", reason="drill").incident
    first.close()
    kept = path.read_bytes()
    path.write_bytes(b"")
    sink = CapturingSink()
    failsafe = make(sinks=[sink])
    failsafe.start()
    alone = sink.wait_for(1)[0]
    path.write_bytes(kept)
    failsafe.plan_reset()
    assert failsafe.incident is not None
    assert failsafe.incident.incident_id == held.incident_id
    closed = sink.wait_for(lambda alert: alert.action is AlertAction.RESOLVE)
    assert [alert.incident_id for alert in closed] == [alone.incident_id]


def test_a_file_size_limit_is_a_failure_that_is_told(path: Path) -> None:
    """The system refuses to let the file grow: the process is tripped, and says why."""
    code = """
        import resource, signal, sys, time
        from failstop import FailSafe, _keeper
        from failstop.errors import DatabaseUnavailableError
        from failstop.recovery import Recovery
        from failstop.testing import CapturingSink
        sink = CapturingSink()
        failsafe = FailSafe("api", store=sys.argv[1], sinks=[sink],
                            recovery=Recovery(probe_interval=60))
        failsafe.start()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        failsafe.trip(DatabaseUnavailableError("gone", kind="refused"))
        alert = sink.wait_for(1)[0]
        print(failsafe.state, alert.action, failsafe.status().store_error is not None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        failsafe.plan_reset()
        print(failsafe.status().store_error)
        failsafe.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), path],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["FAIL_SAFE trigger True", "None"]
    assert check(path).state is State.FAIL_SAFE
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root to lose them")
def test_a_directory_that_cannot_be_written_means_fail_safe(tmp_path: Path) -> None:
    code = """
        import os, sys
        from failstop import FailSafe, _keeper
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        failsafe = FailSafe("api", store=sys.argv[1])
        failsafe.start()
        print(failsafe.state, failsafe.incident.kind)
        print(failsafe.status().store_error)
        failsafe.close()
    """
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid() and not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o055)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o755)
    with FailSafe("api", store=locked / "there.db"):
        pass
    (locked / "there.db").chmod(0o644)
    for name in ("new.db", "there.db"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), locked / name],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        state, said = done.stdout.splitlines()
        assert state in ("FAIL_SAFE store_unreachable", "FAIL_SAFE store_read_only")
        assert "may write" in said or "right to write" in said
    assert not (locked / "new.db").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 400 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_trips_pages_all_the_same_and_is_left_when_there_is_space(
    small_disk: Path,
) -> None:
    """What could not be marked as sent while the disk was full is sent once all the same."""
    code = """
        import pathlib, sys, time
        from failstop import FailSafe, _keeper
        from failstop.errors import DatabaseUnavailableError
        from failstop.recovery import Recovery
        from failstop.testing import CapturingSink

        def fill():
            with open(disk / "ballast", "ab", buffering=0) as ballast:
                try:
                    while True:
                        ballast.write(bytes(512))
                except OSError:
                    pass

        def wait_until(condition):
            limit = time.monotonic() + 20
            while not condition():
                assert time.monotonic() < limit, failsafe.status()
                time.sleep(0.01)

        disk = pathlib.Path(sys.argv[1])
        _keeper.BEAT_EVERY = 0.0
        sink = CapturingSink()
        recovery = Recovery(probe_interval=0.01, consecutive=2)
        failsafe = FailSafe("api", store=disk / "store.db", sinks=[sink], recovery=recovery)
        failsafe.start()
        fill()
        wait_until(lambda: not failsafe.is_normal)
        print(failsafe.incident.kind, failsafe.status().store_error)
        print(sink.wait_for(1)[0].action, failsafe.state)
        (disk / "ballast").unlink()
        wait_until(lambda: failsafe.is_normal)
        print(failsafe.flush(20), [alert.action.value for alert in sink.alerts])

        sink.failure = OSError()
        failsafe.halt(actor="ann", reason="drill")
        wait_until(lambda: failsafe.status().alerts_error is not None)
        fill()
        sink.failure = None
        sink.wait_for(3)
        wait_until(lambda: failsafe._keeper.problem is not None)
        (disk / "ballast").unlink()
        print(failsafe.flush(20), [alert.action.value for alert in sink.alerts][2:])
        failsafe.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(small_disk)],
        check=True,
        capture_output=True,
        text=True,
        timeout=90,
    )
    told, paged, recovered, waited = done.stdout.splitlines()
    assert told.startswith("store_full the store 'store.db' has no space left")
    assert told.endswith("free space on its disk")
    assert paged == "trigger FAIL_SAFE"
    assert recovered == "True ['trigger', 'resolve']"
    assert waited == "True ['trigger']"
    assert verify(small_disk / "store.db").is_intact


def test_a_store_that_stays_locked_trips_and_one_that_is_busy_for_a_moment_does_not(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_keeper, "BEAT_EVERY", 0.0)
    failsafe = make(recovery=Recovery(probe_interval=0.01, consecutive=2))
    failsafe.start()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_until(lambda: failsafe._keeper.problem is not None)
        assert failsafe.is_normal
        monkeypatch.setattr(_keeper, "BEAT_PATIENCE", 0.0)
        wait_until(lambda: kind_of(failsafe) == "store_locked")
        other.execute("ROLLBACK")
    monkeypatch.setattr(_keeper, "BEAT_PATIENCE", 10.0)
    wait_until(lambda: failsafe.is_normal)
    assert verify(path).is_intact


def test_counts_that_cannot_be_written_are_kept(make: Make, path: Path) -> None:
    failsafe = make()
    failsafe.start()
    for _ in range(3):
        failsafe.trip(gone())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        failsafe.plan_reset()
        failsafe.trip(gone())
        other.execute("ROLLBACK")
    failsafe.plan_reset()
    assert failsafe.incident is not None
    assert failsafe.incident.occurrences == 4
    failsafe.close()
    report = check(path)
    assert report.incident is not None
    assert report.incident.occurrences == 4


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_shares_the_store_with_its_parent(make: Make, path: Path) -> None:
    """SQLite's connections do not survive a fork, so each side has its own."""
    failsafe = make(recovery=MANUAL)
    failsafe.start()
    child = os.fork()
    if child == 0:
        failsafe.trip(gone())
        os._exit(0 if failsafe.state is State.FAIL_SAFE else 1)
    assert exit_code(child) == 0
    wait_until(lambda: not failsafe.is_normal)
    failsafe.reset(actor="ann", reason="done")
    failsafe.close()
    report = check(path)
    assert report.is_sound
    assert events_of(path).count("Tripped") == 1


def test_two_processes_that_make_a_store_at_once_make_one(path: Path) -> None:
    code = """
        import sys
        from failstop import FailSafe, _keeper
        with FailSafe("api", store=sys.argv[1]) as failsafe:
            print(failsafe.state)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [each.communicate(timeout=60)[0].strip() for each in running]
    assert said == ["NORMAL"] * 4
    assert verify(path).is_intact
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_a_trip_from_memory_never_takes_the_id_of_an_incident_that_is_over(
    make: Make, path: Path
) -> None:
    """Another process opened and closed that very epoch while this one could not write."""
    one, other, sink = make(), make(), CapturingSink()
    one.start()
    late = make(sinks=[sink])
    late.start()
    other.start()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        late.trip(gone())
        told = sink.wait_for(1)[0].incident_id
        blocker.execute("ROLLBACK")
    one.trip(gone())
    one.reset(actor="ann", reason="done")
    assert one.incident is None
    late.plan_reset()
    assert late.incident is not None
    assert late.incident.incident_id != told
    opened = [row.facts["incident"]["incident_id"] for row in rows(path) if is_trip(row.facts)]
    assert opened == [told, late.incident.incident_id]
    assert late.flush(10)
    heard = [(alert.action, alert.incident_id) for alert in sink.alerts]
    assert set(heard) == {
        (AlertAction.TRIGGER, told),
        (AlertAction.RESOLVE, told),
        (AlertAction.TRIGGER, late.incident.incident_id),
    }


def is_trip(facts: dict[str, Any]) -> bool:
    return bool(facts["event"] == "Tripped")
