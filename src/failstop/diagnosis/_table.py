"""The table: what each SQLSTATE and each kind of failure means, read from `sqlstates.csv`."""

from __future__ import annotations

import csv
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final

from failstop.errors import ErrorCode


class Verdict(StrEnum):
    """What an exception means for the service; only CRITICAL trips."""

    CRITICAL = "critical"
    CONFLICT = "conflict"
    APPLICATION = "application"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    kind: str
    verdict: Verdict
    error_code: ErrorCode | None
    outcome_known: bool
    cause: str
    action: str


@dataclass(frozen=True, slots=True)
class _Table:
    codes: Mapping[str, Row]
    kinds: Mapping[str, Row]


@cache
def read_table() -> _Table:
    """Read the package's table, once."""
    data = pkgutil.get_data("failstop", "sqlstates.csv")
    assert data is not None
    codes: dict[str, Row] = {}
    kinds: dict[str, Row] = {}
    for line in csv.DictReader(data.decode().splitlines()):
        row = Row(
            kind=line["kind"],
            verdict=Verdict(line["verdict"]),
            error_code=ErrorCode(line["error_code"]) if line["error_code"] else None,
            outcome_known=line["outcome_known"] == "yes",
            cause=line["cause"],
            action=line["action"],
        )
        kinds.setdefault(row.kind, row)
        if line["sqlstate"]:
            codes[line["sqlstate"]] = row
    return _Table(codes, kinds)


def row_of_kind(kind: str) -> Row:
    return read_table().kinds[kind]


def row_of_code(sqlstate: str) -> Row:
    """Find the row of a code, else that of its class; a warning's class decides no failure."""
    codes = read_table().codes
    if sqlstate in codes:
        return codes[sqlstate]
    row = codes.get(sqlstate[:2] + "000") if CODE_OR_CLASS.fullmatch(sqlstate) else None
    if row is None or row.verdict is Verdict.NONE:
        return row_of_kind("unknown_sqlstate")
    return row


SQLSTATE: Final = re.compile(r"[0-9A-Z]{5}")
CODE_OR_CLASS: Final = re.compile(r"[0-9A-Z]{2}([0-9A-Z]{3})?")
