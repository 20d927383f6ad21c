"""What a workload did and was told, and whether the database agrees.

A history is recorded as Jepsen's are: each operation is invoked, and then told to be `ok` (it took
effect), `fail` (it did not and never will) or `info` (nobody knows). Time is a counter, not a
clock. The checkers are pure: a history and what was found go in, a verdict comes out.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from failstop.errors import Outcome

__all__ = [
    "History",
    "HistoryEntry",
    "Invocation",
    "Operation",
    "Verdict",
    "check_bank",
    "check_ledger",
    "told_by",
]

Told = Literal["ok", "fail", "info"]
_KINDS = ("invoke", "ok", "fail", "info")
_TOLD: dict[Outcome, Told] = {
    Outcome.NOT_STARTED: "fail",
    Outcome.ROLLED_BACK: "fail",
    Outcome.COMMITTED: "ok",
    Outcome.UNKNOWN: "info",
}
_SHOWN = 5


def told_by(error: BaseException | None) -> Told:
    """Return what an error tells about the work, by its `outcome`; no error tells `ok`.

    One without an outcome proves nothing, so it tells `info`.
    """
    if error is None:
        return "ok"
    outcome = _outcome_of(error)
    return "info" if outcome is None else _TOLD[outcome]


def _outcome_of(error: BaseException | None) -> Outcome | None:
    outcome = getattr(error, "outcome", None)
    return Outcome(outcome) if outcome in set(Outcome) else None


# The record


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of a history.

    `time` counts the entries. `invoked` is the time of the invocation that an `ok`, `fail` or
    `info` belongs to. `outcome` is that of the error which told it, None where none was raised.
    """

    time: int
    process: int | str
    kind: Literal["invoke", "ok", "fail", "info"]
    function: str
    key: str | None = None
    value: Any = None
    invoked: int | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """An invocation with what was told about it: `info` too where nothing was.

    `was_raised` says that an error told it.
    """

    function: str
    key: str | None
    value: Any
    told: Told
    was_raised: bool


class History:
    """A record of operations, from as many threads and tasks as there are.

    With a `path` each entry is appended to that file at once, as a line of JSON, so that it
    outlives a `kill -9`; `load()` reads it. Values have to be JSON then, and each process writes a
    file of its own.

    Raises:
        FileExistsError: there is such a file already.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._lock = threading.Lock()
        self._entries: list[HistoryEntry] = []
        self._path = None if path is None else Path(path)
        if self._path is not None:
            self._path.touch(0o600, exist_ok=False)

    @property
    def entries(self) -> tuple[HistoryEntry, ...]:
        """What was recorded so far, in order."""
        with self._lock:
            return tuple(self._entries)

    def invoke(
        self,
        function: str,
        *,
        key: str | None = None,
        value: Any = None,
        process: int | str = 0,
    ) -> Invocation:
        """Record that an operation begins, and return what records how it ends.

        Raises:
            OSError: the history's file cannot be written.
            TypeError: the value is not JSON, and the history has a file.
        """
        return Invocation(self, self._add(process, "invoke", function, key, value, None, None))

    def operations(self) -> Iterator[Operation]:
        """Give every invocation with its end, in the order of the invocations."""
        entries = self.entries
        ends = {entry.invoked: entry for entry in entries if entry.kind != "invoke"}
        for entry in entries:
            if entry.kind == "invoke":
                yield _operation(entry, ends.get(entry.time))

    def dump(self, path: str | Path) -> None:
        """Write all entries to a file, one JSON object a line.

        Raises:
            OSError: the file cannot be written.
            TypeError: a value is not JSON.
        """
        Path(path).write_bytes(b"".join(map(_line, self.entries)))

    @classmethod
    def load(cls, *paths: str | Path) -> Self:
        """Read a history from its file, or one history from the files of many processes.

        Raises:
            OSError: a file cannot be read.
            ValueError: a line is no entry of a history.
        """
        history = cls()
        for path in paths:
            first = len(history._entries)
            lines = Path(path).read_text().splitlines()
            history._entries += [_parse(line, n, first) for n, line in enumerate(lines)]
        return history

    def _add(self, process: int | str, kind: Any, *facts: Any) -> HistoryEntry:
        with self._lock:
            entry = HistoryEntry(len(self._entries), process, kind, *facts)
            if self._path is not None:
                with self._path.open("ab", buffering=0) as file:
                    file.write(_line(entry))
            self._entries.append(entry)
        return entry


class Invocation:
    """An operation that has begun; told once how it ended.

    One that is never told counts as `info`.

    Raises:
        RuntimeError: from each method, where it was told before.
    """

    def __init__(self, history: History, entry: HistoryEntry) -> None:
        self._history = history
        self._entry = entry
        self._is_told = False

    def ok(self, value: Any = None) -> None:
        """Record that it took effect, and what it returned."""
        self._tell("ok", value, None)

    def fail(self) -> None:
        """Record that it took no effect and never will."""
        self._tell("fail", None, None)

    def info(self) -> None:
        """Record that nobody knows."""
        self._tell("info", None, None)

    def raised(self, error: BaseException) -> None:
        """Record what an error tells, by its `outcome`; see `told_by`."""
        outcome = _outcome_of(error)
        self._tell(told_by(error), None, str(outcome or Outcome.UNKNOWN))

    def _tell(self, kind: Told, value: Any, outcome: str | None) -> None:
        if self._is_told:
            raise RuntimeError("the operation was told how it ended before; invoke() a new one")
        self._is_told = True
        begun = self._entry
        facts = (begun.function, begun.key, value, begun.time, outcome)
        self._history._add(begun.process, kind, *facts)  # noqa: SLF001 - its own history


def _operation(begun: HistoryEntry, end: HistoryEntry | None) -> Operation:
    told: Any = "info" if end is None else end.kind
    was_raised = end is not None and end.outcome is not None
    return Operation(begun.function, begun.key, begun.value, told, was_raised)


def _line(entry: HistoryEntry) -> bytes:
    return json.dumps(asdict(entry), ensure_ascii=False).encode() + b"\n"


def _parse(line: str, number: int, first: int) -> HistoryEntry:
    try:
        entry = HistoryEntry(**json.loads(line))
    except (ValueError, TypeError):
        raise ValueError(f"line {number + 1} is no entry of a history") from None
    if entry.time != number or entry.kind not in _KINDS:
        raise ValueError(f"line {number + 1} is not the entry of a history that belongs there")
    invoked = None if entry.invoked is None else entry.invoked + first
    return replace(entry, time=number + first, invoked=invoked)


# The verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the database agrees with what was told.

    Attributes:
        invoked: how many operations began.
        ok: how many were told to have taken effect.
        failed: how many were told to have taken none.
        unknown: how many nobody knew about.
        lost: keys that returned without an error and are not there.
        duplicated: keys that took effect more than once.
        wrong: keys whose error told COMMITTED and are not there, or ROLLED_BACK and are.
        invented: keys that are there and were never invoked.
        unbalanced: sentences about a read or an account with another amount than it should have.
    """

    invoked: int
    ok: int
    failed: int
    unknown: int
    lost: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    invented: tuple[str, ...] = ()
    unbalanced: tuple[str, ...] = ()

    @property
    def is_valid(self) -> bool:
        """True where nothing was lost, duplicated, wrongly told, invented or unbalanced."""
        return not any(found for _, found in self._findings())

    def __str__(self) -> str:
        told = f"{self.ok} ok, {self.failed} fail, {self.unknown} info"
        head = f"{'valid' if self.is_valid else 'INVALID'}: {self.invoked} operations ({told})"
        return "\n".join([head, *(_shown(name, found) for name, found in self._findings())])

    def _findings(self) -> list[tuple[str, tuple[str, ...]]]:
        names = ("lost", "duplicated", "wrong", "invented", "unbalanced")
        return [(name, getattr(self, name)) for name in names if getattr(self, name)]


def _shown(name: str, found: Sequence[str]) -> str:
    rest = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{len(found)} {name}: {', '.join(found[:_SHOWN])}{rest}"


def check_ledger(history: History, rows: Iterable[str]) -> Verdict:
    """Compare a workload that inserts each order once under its key with the keys in the table.

    A key may be tried again: it has to be there exactly once if one try was told `ok`, nowhere if
    all were told `fail`, and else at most once. Operations without a key are left out.
    """
    return Verdict(**_compare(_keyed(history), Counter(rows)))


def check_bank(
    history: History,
    *,
    opening: Mapping[str, int],
    closing: Mapping[str, int],
    applied: Iterable[str],
    reads: Iterable[Mapping[str, int]] = (),
) -> Verdict:
    """Compare a workload of transfers with the balances and with the transfers' own table.

    Each transfer is an operation with a key and the value `[source, target, amount]`, and writes
    its key in the transaction that moves the money; `applied` are the keys written, which are
    judged as in `check_ledger`. Every read holds all balances of one moment, and has to have the
    total of the `opening`; the `closing` balances have to be what the applied transfers make.
    """
    operations = _keyed(history)
    found = Counter(applied)
    expected = _balances(opening, operations, found)
    unbalanced = [*_unbalanced_reads(sum(opening.values()), reads), *_differing(expected, closing)]
    return Verdict(**_compare(operations, found), unbalanced=tuple(unbalanced))


def _keyed(history: History) -> dict[str, list[Operation]]:
    tries: dict[str, list[Operation]] = {}
    for operation in history.operations():
        if operation.key is not None:
            tries.setdefault(operation.key, []).append(operation)
    return tries


def _compare(operations: Mapping[str, Sequence[Operation]], found: Counter[str]) -> dict[str, Any]:
    told = Counter(each.told for tries in operations.values() for each in tries)
    faults: dict[str, list[str]] = {"lost": [], "duplicated": [], "wrong": []}
    for key, tries in operations.items():
        for fault in _faults(tries, found[key]):
            faults[fault].append(key)
    return {
        "invoked": told.total(),
        "ok": told["ok"],
        "failed": told["fail"],
        "unknown": told["info"],
        "invented": tuple(sorted(key for key in found if key not in operations and found[key])),
        **{name: tuple(keys) for name, keys in faults.items()},
    }


def _faults(tries: Sequence[Operation], count: int) -> Iterator[str]:
    done = [each for each in tries if each.told == "ok"]
    if not count and done:
        yield "wrong" if all(each.was_raised for each in done) else "lost"
    if count > 1:
        yield "duplicated"
    if count and all(each.told == "fail" for each in tries):
        yield "wrong"


def _balances(
    opening: Mapping[str, int], operations: Mapping[str, Sequence[Operation]], found: Counter[str]
) -> dict[str, int]:
    """Return what the accounts hold after the transfers that are found, as often as they are."""
    balances = Counter(opening)
    for key in operations.keys() & found.keys():
        source, target, amount = operations[key][0].value
        balances[source] -= amount * found[key]
        balances[target] += amount * found[key]
    return dict(balances)


def _unbalanced_reads(total: int, reads: Iterable[Mapping[str, int]]) -> Iterator[str]:
    for number, read in enumerate(reads, start=1):
        if (held := sum(read.values())) != total:
            yield f"read {number} holds {held} in place of {total}"


def _differing(expected: Mapping[str, int], closing: Mapping[str, int]) -> Iterator[str]:
    for account in sorted({*expected, *closing}):
        due, held = expected.get(account, 0), closing.get(account, 0)
        if due != held:
            yield f"account {account} holds {held} in place of {due}"
