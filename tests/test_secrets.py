"""Claim C11, end to end: a secret that an error carries is in no answer, page, row or log line."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from failstop import Database, FailSafe, Recovery, with_fail_fast_protection
from failstop.errors import CriticalError
from failstop.journal import export
from failstop.testing import CapturingSink

SECRETS = st.text("abcdefghjkmnpqrstuvwxyz23456789", min_size=12, max_size=24).map("s3cr3t".__add__)
PLACES = ("message", "parameter", "sql", "dsn", "cause", "person", "check")


class DriverError(Exception):
    """What a driver raises, with whatever it was given in its text."""


@pytest.mark.parametrize("place", PLACES)
@given(secret=SECRETS)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_secret_leaves_by_no_way(
    place: str,
    secret: str,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    store = tmp_path_factory.mktemp("secrets") / "failstop.db"
    sink = CapturingSink()
    failsafe = FailSafe(
        "tests", store=store, sinks=[sink], recovery=Recovery(probe_interval=3600, mode="manual")
    )
    url = f"sqlite:///file:{tmp_path_factory.mktemp('data') / 'x.db'}?uri=true"
    engine = create_engine(url)
    database = Database(engine, failsafe)
    database.create_schema()
    with failsafe:
        said = [fail(place, secret, failsafe, database)]
        failsafe.flush(10)
        said += [failsafe.status().to_dict(), failsafe.incident, repr(failsafe), repr(database)]
        said += sink.alerts
    engine.dispose()
    rows = io.StringIO()
    export(store, rows)
    said += [rows.getvalue(), caplog.text]
    assert sink.alerts, "nobody was told"
    for each in said:
        assert secret not in (each if isinstance(each, str) else shown(each))


def fail(place: str, secret: str, failsafe: FailSafe, database: Database) -> Any:
    """Fail with a secret at `place`, in a protected handler; return its answer."""

    @with_fail_fast_protection(failsafe=failsafe)
    def handler() -> object:
        guard = database._guard
        guard.fail(driver_error(place, secret), phase_of_checkout(), is_probe=False)

    if place == "person":
        failsafe.halt(actor="ada", reason=f"postgresql://ada:{secret}@db/x is down")
    if place == "check":
        failsafe.trip(CriticalError(f"connect to postgresql://u:{secret}@db/x failed"))
    return handler()


def driver_error(place: str, secret: str) -> Exception:
    text = {
        "message": f"server said {secret}",
        "dsn": f"could not connect to postgresql://u:{secret}@db/x",
        "cause": "the cause says it",
    }.get(place, "it failed")
    original = DriverError(text)
    if place == "cause":
        original.__cause__ = DriverError(f"password {secret} was refused")
    sql = f"SELECT '{secret}'" if place == "sql" else "SELECT 1"
    parameters = {"x": secret} if place == "parameter" else {}
    return OperationalError(sql, parameters, original)


def phase_of_checkout() -> Any:
    from failstop.diagnosis import Phase

    return Phase.CHECKOUT


def shown(thing: object) -> str:
    """All that can be seen of `thing`."""
    try:
        return json.dumps(thing, default=repr)
    except TypeError:
        return repr(thing)


def test_the_planted_secret_would_be_found(tmp_path: Path) -> None:
    """The test above can fail: what it looks through would show the secret."""
    assert "s3cr3tabc" in shown({"body": {"x": ("s3cr3tabc",)}})
    assert "s3cr3tabc" in str(driver_error("sql", "s3cr3tabc"))
