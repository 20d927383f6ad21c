"""The runbook's addresses: where a person reads what to do about a kind of failure.

Lives here: every kind that failstop itself tells. Never here: what to do.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from failstop.diagnosis._table import read_table

__all__ = ["RUNBOOK", "kinds", "runbook"]

RUNBOOK: Final = "https://failstop.dev/runbook"

_OWN: Final = frozenset(
    {
        "action_failed",
        "action_interrupted",
        "action_not_ended",
        "check_failed",
        "check_hung",
        "closed",
        "cluster_changed",
        "doorbell_corrupt",
        "doorbell_replaced",
        "doorbell_unreachable",
        "durability_reduced",
        "fence_locked",
        "file_gone",
        "gateway_probe",
        "gateway_silent",
        "gateway_status",
        "gateway_unreachable",
        "halt",
        "halted_elsewhere",
        "in_doubt",
        "listener_silent",
        "monitor_silent",
        "no_url",
        "normal",
        "probe_failed",
        "rolled_back_inside",
        "starting",
        "store_closed",
        "store_corrupt",
        "store_failed",
        "store_full",
        "store_locked",
        "store_newer",
        "store_read_only",
        "store_replaced",
        "store_unreachable",
        "timeline_changed",
        "unsafe_settings",
        "write_not_read_back",
        "writes_lost",
    }
)
"""What is no diagnosis of an exception, and so in no row of the table."""


@cache
def kinds() -> frozenset[str]:
    """Return every kind of failure that failstop tells; another one was made by hand."""
    return _OWN.union(read_table().kinds)


def runbook(kind: str) -> str:
    """Return the address of what to do about failures of `kind`; of the page for a strange one."""
    return f"{RUNBOOK}#{kind.replace('_', '-')}" if kind in kinds() else RUNBOOK
