"""The watchdog ends what outlasts its time, and nothing else."""

from __future__ import annotations

import math
import os
import random
import socket
import threading
import time
from collections.abc import Callable

import pytest
from tests.forking import exit_code

from failstop._watchdog import Timer, Watchdog
from failstop.database._line import Cut, Line


class Recorder(Timer):
    """A timer that writes down its expiries."""

    __slots__ = ("expired",)

    def __init__(self, watchdog: Watchdog) -> None:
        super().__init__(watchdog)
        self.expired: list[float] = []

    def expire(self, now: float) -> None:
        self.due = None
        self.expired.append(now)


@pytest.fixture
def watchdog() -> Watchdog:
    return Watchdog()


def test_a_timer_expires_once_when_it_is_due(watchdog: Watchdog) -> None:
    timer = Recorder(watchdog)
    due = time.monotonic() + 0.05
    timer.arm(due)
    wait_until(lambda: bool(timer.expired))
    watchdog.close(5)
    assert len(timer.expired) == 1
    assert timer.expired[0] >= due


def test_a_disarmed_timer_does_not_expire(watchdog: Watchdog) -> None:
    timer, later = Recorder(watchdog), Recorder(watchdog)
    timer.arm(time.monotonic() + 0.02)
    timer.due = None
    later.arm(time.monotonic() + 0.1)
    wait_until(lambda: bool(later.expired))
    assert timer.expired == []


def test_a_timer_that_is_put_off_expires_at_its_new_time(watchdog: Watchdog) -> None:
    timer = Recorder(watchdog)
    timer.arm(time.monotonic() + 0.02)
    due = time.monotonic() + 0.15
    timer.arm(due)
    wait_until(lambda: bool(timer.expired))
    assert timer.expired[0] >= due


def test_a_timer_that_is_put_forward_expires_at_its_new_time(watchdog: Watchdog) -> None:
    timer = Recorder(watchdog)
    timer.arm(time.monotonic() + 3600)
    timer.arm(time.monotonic() + 0.02)
    wait_until(lambda: bool(timer.expired))


def test_a_timer_that_raises_does_not_end_the_others(
    watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Timer):
        def expire(self, now: float) -> None:
            raise RuntimeError

    timer = Recorder(watchdog)
    Broken(watchdog).arm(time.monotonic())
    timer.arm(time.monotonic() + 0.05)
    wait_until(lambda: bool(timer.expired))
    assert "Broken" in caplog.text


def test_arming_again_and_again_wakes_nobody(watchdog: Watchdog) -> None:
    """The heap holds one entry a timer, however often it is armed."""
    timer = Recorder(watchdog)
    for _ in range(1000):
        timer.arm(time.monotonic() + 60)
        timer.due = None
    assert len(watchdog._heap) == 1


def test_closing_ends_the_thread_though_idle_timers_are_scheduled(watchdog: Watchdog) -> None:
    timer = Recorder(watchdog)
    timer.arm(time.monotonic() + 3600)
    timer.due = None
    thread = watchdog._thread
    assert thread is not None
    watchdog.close(10)
    assert not thread.is_alive()


def test_a_timer_armed_after_the_close_still_expires(watchdog: Watchdog) -> None:
    watchdog.close(1)
    timer = Recorder(watchdog)
    timer.arm(time.monotonic() + 0.02)
    wait_until(lambda: bool(timer.expired))
    wait_until(lambda: watchdog._thread is None)


def test_a_forked_child_has_a_watchdog_of_its_own(watchdog: Watchdog) -> None:
    timer = Recorder(watchdog)
    timer.arm(time.monotonic() + 3600)
    pid = os.fork()
    if pid == 0:
        watchdog.after_fork()
        mine = Recorder(watchdog)
        mine.arm(time.monotonic() + 0.02)
        limit = time.monotonic() + 10
        while not mine.expired and time.monotonic() < limit:
            time.sleep(0.01)
        os._exit(0 if mine.expired and not timer.expired else 1)
    assert exit_code(pid) == 0


class Peer:
    """A connection as a driver has it, over a real socket pair."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()

    def fileno(self) -> int:
        return self.here.fileno()

    @property
    def is_whole(self) -> bool:
        try:
            self.here.sendall(b"x")
            return self.there.recv(1) == b"x"
        except OSError:
            return False

    def close(self) -> None:
        self.here.close()
        self.there.close()


def make_line(watchdog: Watchdog, peer: Peer) -> Line:
    return Line(watchdog, peer, "psycopg", generation=0, is_probe=False)


def test_a_line_that_expires_is_cut(watchdog: Watchdog) -> None:
    peer = Peer()
    line = make_line(watchdog, peer)
    line.arm(time.monotonic() + 0.02)
    assert peer.here.recv(1) == b""
    assert line.cut is Cut.DEADLINE
    line.release(is_broken=True)
    peer.close()


def test_a_line_that_was_cut_at_the_last_moment_is_not_handed_over(watchdog: Watchdog) -> None:
    peer = Peer()
    line = make_line(watchdog, peer)
    line.arm(time.monotonic() + 3600)
    assert line.hand_over()
    line.arm(time.monotonic())
    assert peer.here.recv(1) == b""
    assert not line.hand_over()
    line.release(is_broken=True)
    peer.close()


def test_lines_that_race_the_watchdog_never_hit_another_descriptor(watchdog: Watchdog) -> None:
    """After `rest()` a line is never cut, and a closed descriptor's successor never either.

    Every thread arms for a moment about as long as its work, so that cut and disarm meet often;
    descriptors are closed and their numbers used again at once.
    """
    stop = time.monotonic() + 3.0
    broken: list[str] = []
    cuts: list[int] = []

    def race(seed: int) -> None:
        dice = random.Random(seed)
        peer = Peer()
        line = make_line(watchdog, peer)
        while time.monotonic() < stop:
            line.arm(time.monotonic() + dice.uniform(0, 0.0008))
            time.sleep(dice.uniform(0, 0.0008))
            line.due = None
            line.rest()
            was_severed = line.is_severed
            if peer.is_whole == was_severed:
                broken.append(f"severed={was_severed}")
            if was_severed:
                cuts.append(1)
                line.release(is_broken=dice.random() < 0.5)
                peer.close()
                peer = Peer()  # takes the numbers that have come free
                if not peer.is_whole:
                    broken.append("a successor was cut")
                line = make_line(watchdog, peer)
        line.release(is_broken=False)
        peer.close()

    threads = [threading.Thread(target=race, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert broken == []
    assert len(cuts) > 20, "the race did not take place"
    assert math.isinf(Recorder(watchdog).scheduled)


def wait_until(is_true: Callable[[], bool], seconds: float = 10.0) -> None:
    limit = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < limit, "the condition did not come true"
        time.sleep(0.005)
