"""Alerts arrive and the journal stays whole, whenever the processes are killed.

Two processes trip and recover on one store, as fast as they can, and are killed by SIGKILL at a
random moment; a hundred times.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from failstop import FailSafe
from failstop.alerts import Alert
from failstop.journal import check, rows, verify
from failstop.recovery import Recovery

ROUNDS = 100

ZYGOTE = """
    import os, random, signal, sys, time
    from failstop import FailSafe
    from failstop.errors import DatabaseUnavailableError
    from failstop.recovery import Recovery

    store, arrived, promised, rounds = sys.argv[1:4] + [int(sys.argv[4])]
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT

    def serve(number):
        log, kept = os.open(arrived, append), os.open(promised, append)

        def pager(alert):
            os.write(log, f"{alert.action} {alert.incident_id}\\n".encode())

        failsafe = FailSafe(
            "api", store=store, sinks=[pager],
            recovery=Recovery(probe_interval=0.004, consecutive=1),
        )
        failsafe.start()
        while True:
            error = DatabaseUnavailableError("gone", kind="refused")
            failsafe.trip(error)
            if failsafe._keeper.problem is None:
                os.write(kept, f"{error.incident_id}\\n".encode())
            time.sleep(random.uniform(0.0, 0.03))

    def begin(number):
        child = os.fork()
        if child == 0:
            random.seed(number)
            serve(number)
        return child

    for number in range(rounds):
        children = [begin(2 * number), begin(2 * number + 1)]
        time.sleep(random.uniform(0.02, 0.35))
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status
"""


def test_two_hundred_kills_lose_no_page_and_break_no_chain(tmp_path: Path) -> None:
    store, arrived, promised = (tmp_path / name for name in ("store.db", "arrived", "promised"))
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ZYGOTE), store, arrived, promised, str(ROUNDS)],
        check=True,
        timeout=180,
    )
    finish(store, arrived)

    assert verify(store).is_intact
    assert check(store).is_sound
    assert check(store).waiting == {}
    facts = [row.facts for row in rows(store)]
    tripped = [each["incident"]["incident_id"] for each in facts if opens(each)]
    reset = [each["incident"]["incident_id"] for each in facts if each["event"] == "Reset"]
    assert len(tripped) > ROUNDS / 4, "hardly anything happened before the kills"
    assert len(set(tripped)) == len(tripped), "an incident was opened twice"
    assert set(promised.read_text().split()) <= set(tripped), "a trip that was answered is lost"

    lines = [tuple(line.split()) for line in arrived.read_text().splitlines()]
    triggers = Counter(incident for action, incident in lines if action == "trigger")
    resolves = Counter(incident for action, incident in lines if action == "resolve")
    assert set(triggers) == set(tripped), "a page is missing, or came from nowhere"
    assert set(resolves) == set(reset), "an end is missing, or came from nowhere"
    for incident in resolves:
        order = [action for action, each in lines if each == incident]
        assert order[0] == "trigger", "an end came before its page"
    repeated = sum(triggers.values()) - len(triggers)
    assert repeated <= ROUNDS, "pages were repeated for more than the kills"


def opens(facts: dict[str, Any]) -> bool:
    is_failure = facts["event"] in ("Tripped", "Halted")
    return is_failure and facts["incident"]["epoch"] == facts["epoch"]


def finish(store: Path, arrived: Path) -> None:
    """Let one last process deliver what waits, and end in NORMAL."""

    def pager(alert: Alert) -> None:
        with arrived.open("a") as log:
            log.write(f"{alert.action} {alert.incident_id}\n")

    recovery = Recovery(probe_interval=0.01, consecutive=1)
    with FailSafe("api", store=store, sinks=[pager], recovery=recovery) as failsafe:
        assert failsafe.flush(30)
        failsafe.halt(actor="test", reason="the end")
        failsafe.reset(actor="test", reason="the end", force=True)
        assert failsafe.flush(30)
