"""The history checker: a true account of a run is valid, and no single untruth passes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failstop.errors import Outcome, TransactionFailedError
from failstop.testing import History, Verdict, check_bank, check_ledger, told_by

ACCOUNTS = ("ada", "bob", "cyd")
OPENING = dict.fromkeys(ACCOUNTS, 100)


@dataclass(frozen=True)
class Try:
    """One operation: what was told, whether by an error, and whether it took effect."""

    told: str
    is_raised: bool
    is_applied: bool
    source: str = "ada"
    target: str = "bob"
    amount: int = 1


@st.composite
def tries(draw: st.DrawFn) -> Try:
    told = draw(st.sampled_from(["ok", "fail", "info", "silent"]))
    may = st.just(told == "ok") if told in ("ok", "fail") else st.booleans()
    source, target = draw(st.permutations(ACCOUNTS))[:2]
    return Try(told, draw(st.booleans()), draw(may), source, target, draw(st.integers(1, 9)))


runs = st.lists(tries(), max_size=12).map(lambda run: {f"t{n}": t for n, t in enumerate(run)})


def failure(outcome: Outcome) -> TransactionFailedError:
    return TransactionFailedError("the server went away", outcome=outcome)


OUTCOMES = {"ok": Outcome.COMMITTED, "fail": Outcome.ROLLED_BACK, "info": Outcome.UNKNOWN}


def record(run: Mapping[str, Try]) -> History:
    history = History()
    for key, each in run.items():
        invocation = history.invoke(
            "transfer", key=key, value=[each.source, each.target, each.amount], process=1
        )
        if each.told == "silent":
            continue
        if each.is_raised:
            invocation.raised(failure(OUTCOMES[each.told]))
        else:
            getattr(invocation, each.told)()
    return history


def applied(run: Mapping[str, Try]) -> list[str]:
    return [key for key, each in run.items() if each.is_applied]


def balances(run: Mapping[str, Try], keys: list[str]) -> dict[str, int]:
    held = dict(OPENING)
    for key in keys:
        held[run[key].source] -= run[key].amount
        held[run[key].target] += run[key].amount
    return held


def judge_bank(run: Mapping[str, Try], keys: list[str]) -> Verdict:
    """Judge a bank whose balances are what the transfers in its table make."""
    known = [key for key in keys if key in run]
    return check_bank(
        record(run), opening=OPENING, closing=balances(run, known), applied=keys, reads=[OPENING]
    )


def judge_ledger(run: Mapping[str, Try], keys: list[str]) -> Verdict:
    return check_ledger(record(run), keys)


Judge = Callable[[Mapping[str, Try], list[str]], Verdict]
both = pytest.mark.parametrize("judge", [judge_ledger, judge_bank])


def faults(verdict: Verdict) -> dict[str, tuple[str, ...]]:
    names = ("lost", "duplicated", "wrong", "invented", "unbalanced")
    return {name: getattr(verdict, name) for name in names if getattr(verdict, name)}


# A true account


@both
@given(run=runs, seed=st.randoms())
def test_the_history_of_a_correct_run_is_valid(
    judge: Judge, run: dict[str, Try], seed: random.Random
) -> None:
    keys = applied(run)
    seed.shuffle(keys)
    verdict = judge(run, keys)
    assert verdict.is_valid
    assert faults(verdict) == {}
    assert verdict.invoked == len(run) == verdict.ok + verdict.failed + verdict.unknown


# One untruth


@both
@given(run=runs, data=st.data())
def test_one_lost_operation_is_found(
    judge: Judge, run: dict[str, Try], data: st.DataObject
) -> None:
    run = {**run, "extra": Try("ok", False, True)}
    key = data.draw(st.sampled_from([k for k, t in run.items() if t.told == "ok"]))
    kind = "wrong" if run[key].is_raised else "lost"
    verdict = judge(run, [each for each in applied(run) if each != key])
    assert not verdict.is_valid
    assert faults(verdict) == {kind: (key,)}


@both
@given(run=runs, data=st.data())
def test_one_duplicated_operation_is_found(
    judge: Judge, run: dict[str, Try], data: st.DataObject
) -> None:
    run = {**run, "extra": Try("info", False, True)}
    key = data.draw(st.sampled_from(applied(run)))
    verdict = judge(run, [*applied(run), key])
    assert not verdict.is_valid
    assert faults(verdict) == {"duplicated": (key,)}


@both
@given(run=runs)
def test_one_invented_operation_is_found(judge: Judge, run: dict[str, Try]) -> None:
    verdict = judge(run, [*applied(run), "nobody's"])
    assert not verdict.is_valid
    assert faults(verdict) == {"invented": ("nobody's",)}


@both
@given(run=runs, data=st.data())
def test_one_operation_told_to_have_failed_and_there_is_found(
    judge: Judge, run: dict[str, Try], data: st.DataObject
) -> None:
    run = {**run, "extra": Try("fail", True, False)}
    key = data.draw(st.sampled_from([k for k, t in run.items() if t.told == "fail"]))
    verdict = judge(run, [*applied(run), key])
    assert not verdict.is_valid
    assert faults(verdict) == {"wrong": (key,)}


@given(run=runs, account=st.sampled_from(ACCOUNTS), amount=st.integers(-9, 9).filter(bool))
def test_an_account_that_the_transfers_do_not_explain_is_found(
    run: dict[str, Try], account: str, amount: int
) -> None:
    closing = balances(run, applied(run))
    closing[account] += amount
    verdict = check_bank(record(run), opening=OPENING, closing=closing, applied=applied(run))
    assert list(faults(verdict)) == ["unbalanced"]
    assert account in verdict.unbalanced[0]


@given(run=runs, amount=st.integers(-9, 9).filter(bool))
def test_a_read_of_half_a_transfer_is_found(run: dict[str, Try], amount: int) -> None:
    closing = balances(run, applied(run))
    torn = {**closing, "ada": closing["ada"] + amount}
    verdict = check_bank(
        record(run), opening=OPENING, closing=closing, applied=applied(run), reads=[closing, torn]
    )
    assert verdict.unbalanced == (f"read 2 holds {300 + amount} in place of 300",)


# Tries under one key


@pytest.mark.parametrize(
    ("told", "valid_counts"),
    [
        (("fail", "ok"), {1}),
        (("info", "ok"), {1}),
        (("ok", "ok"), {1}),
        (("fail", "info"), {0, 1}),
        (("fail", "fail"), {0}),
    ],
)
def test_an_order_that_was_tried_again_is_judged_once(
    told: tuple[str, ...], valid_counts: set[int]
) -> None:
    history = History()
    for each in told:
        getattr(history.invoke("insert", key="order"), each)()
    assert {n for n in range(3) if check_ledger(history, ["order"] * n).is_valid} == valid_counts


def test_an_operation_without_a_key_is_left_out() -> None:
    history = History()
    history.invoke("read").ok()
    assert check_ledger(history, []) == Verdict(invoked=0, ok=0, failed=0, unknown=0)


# What an error tells


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome.NOT_STARTED, "fail"),
        (Outcome.ROLLED_BACK, "fail"),
        (Outcome.COMMITTED, "ok"),
        (Outcome.UNKNOWN, "info"),
    ],
)
def test_an_error_tells_by_its_outcome(outcome: Outcome, told: str) -> None:
    assert told_by(failure(outcome)) == told


def test_an_error_without_an_outcome_proves_nothing() -> None:
    assert told_by(ConnectionResetError()) == "info"
    assert told_by(None) == "ok"


# The record


def test_an_entry_is_told_once() -> None:
    invocation = History().invoke("insert", key="order")
    invocation.ok()
    with pytest.raises(RuntimeError, match="was told how it ended before"):
        invocation.fail()


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_threads_record_one_history() -> None:
    history = History()

    def work(process: int) -> None:
        for n in range(200):
            history.invoke("insert", key=f"{process}-{n}", process=process).ok()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert [entry.time for entry in history.entries] == list(range(1600))
    keys = [f"{process}-{n}" for process in range(4) for n in range(200)]
    assert check_ledger(history, keys).is_valid


@given(run=runs)
def test_a_history_comes_back_from_its_lines(
    tmp_path_factory: pytest.TempPathFactory, run: dict[str, Try]
) -> None:
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    history = record(run)
    history.dump(path)
    assert History.load(path).entries == history.entries


def test_the_histories_of_two_processes_are_one(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        history = History(path)
        open_one = history.invoke("insert", key=f"{path.name}-1")
        history.invoke("insert", key=f"{path.name}-2").fail()
        open_one.ok()
    history = History.load(*paths)
    told = {operation.key: operation.told for operation in history.operations()}
    assert told == {"a-1": "ok", "a-2": "fail", "b-1": "ok", "b-2": "fail"}
    assert [entry.time for entry in history.entries] == list(range(8))


def test_a_history_with_a_file_outlives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "history"
    script = (
        "import os, signal, sys; from failstop.testing import History; h = History(sys.argv[1]);"
        "h.invoke('insert', key='a').ok(); h.invoke('insert', key='b');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    verdict = check_ledger(History.load(path), ["a"])
    assert (verdict.is_valid, verdict.ok, verdict.unknown) == (True, 1, 1)


def test_a_file_is_not_written_by_two_histories(tmp_path: Path) -> None:
    History(tmp_path / "history")
    with pytest.raises(FileExistsError):
        History(tmp_path / "history")


@pytest.mark.parametrize("line", ["{", "[]", '{"time": 0}', '{"time": 1, "other": 2}'])
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history"
    History(path).invoke("insert", key="order")
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match="line 2 is no"):
        History.load(path)


def test_a_value_that_is_not_json_is_refused_and_not_recorded(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    with pytest.raises(TypeError):
        history.invoke("insert", key="order", value=object())
    assert history.entries == ()


# The verdict


def test_a_verdict_reads_as_a_report() -> None:
    history = History()
    for n in range(7):
        history.invoke("insert", key=f"order-{n}").ok()
    history.invoke("insert", key="order-7").info()
    verdict = check_ledger(history, ["order-6", "order-6", "x"])
    assert str(verdict) == (
        "INVALID: 8 operations (7 ok, 0 fail, 1 info)\n"
        "6 lost: order-0, order-1, order-2, order-3, order-4 and 1 more\n"
        "1 duplicated: order-6\n"
        "1 invented: x"
    )
    assert str(check_ledger(History(), [])) == "valid: 0 operations (0 ok, 0 fail, 0 info)"


def test_a_verdict_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        check_ledger(History(), []).lost = ("order",)  # type: ignore[misc]


def test_the_checker_needs_no_pytest() -> None:
    script = "import sys, failstop.testing; assert not {'pytest', 'psutil'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
