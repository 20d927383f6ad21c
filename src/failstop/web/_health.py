"""The status as `application/health+json` (draft-inadarei-api-health-check): pass, warn or fail.

Old, missing or failed is never "pass". Never here: HTTP.
"""

from __future__ import annotations

from typing import Any

from failstop.events import CheckResult
from failstop.status import SystemStatus, timestamp

__all__ = ["database_report", "health_report", "readiness_report"]

PASS, WARN, FAIL = "pass", "warn", "fail"


def health_report(status: SystemStatus) -> dict[str, Any]:
    """Return the whole status; `warn` where it is safe to trade but something is to be done."""
    verdict, told = FAIL, status.reasons
    if status.is_operational:
        told = status.recommendations
        if status.alerts_error is not None:
            told = (*told, f"alerts do not arrive: {status.alerts_error}")
        verdict = WARN if told else PASS
    checks = {f"{check.name}:responseTime": [_check(check, status)] for check in status.checks}
    checks |= {"alerts:pending": [_pending(status)], "inDoubt:count": [_doubts(status)]}
    return {**_head(status, verdict, told), "checks": checks}


def database_report(status: SystemStatus, name: str | None) -> dict[str, Any]:
    """Return what was last observed of one database."""
    seen = status.database(name)
    check = next((each for each in status.checks if each.name == seen["name"]), None)
    verdict = PASS if seen["status"] == "up" else FAIL
    told = () if verdict == PASS else (f"the database is {seen['status']}",)
    found = {} if check is None else {f"{check.name}:responseTime": [_check(check, status)]}
    return {**_head(status, verdict, told), "checks": found}


def readiness_report(service: str, state: str, is_ready: bool) -> dict[str, Any]:
    """Return whether the service takes requests."""
    told = {} if is_ready else {"output": f"the state is {state}"}
    return {"status": PASS if is_ready else FAIL, "serviceId": service, **told}


def _head(status: SystemStatus, verdict: str, told: tuple[str, ...]) -> dict[str, Any]:
    head: dict[str, Any] = {
        "status": verdict,
        "serviceId": status.service,
        "description": status.message,
    }
    if verdict != PASS:
        head |= {"output": "; ".join(told), "notes": list(status.recommendations)}
    return head


def _check(check: CheckResult, status: SystemStatus) -> dict[str, Any]:
    is_known = check.is_passed and status.is_fresh
    report: dict[str, Any] = {
        "componentId": check.name,
        "componentType": "datastore" if check.name in status.databases else "component",
        "observedValue": round(check.duration, 6),
        "observedUnit": "s",
        "status": PASS if is_known else FAIL,
        "time": timestamp(check.observed_at),
    }
    if not is_known:
        report["output"] = check.detail if not check.is_passed else "observed too long ago"
    return report


def _pending(status: SystemStatus) -> dict[str, Any]:
    verdict = PASS if status.alerts_error is None else WARN
    report: dict[str, Any] = {"observedValue": status.alerts_pending, "status": verdict}
    return report if verdict == PASS else {**report, "output": status.alerts_error}


def _doubts(status: SystemStatus) -> dict[str, Any]:
    count = len(status.in_doubt)
    report: dict[str, Any] = {"observedValue": count, "status": WARN if count else PASS}
    return {**report, "output": "transactions are in doubt"} if count else report
