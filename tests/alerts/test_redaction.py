"""Nothing leaks: secrets planted wherever an error can carry them reach no sink, repr or log."""

from __future__ import annotations

import json
import logging
import string
import traceback
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from failstop._redaction import LONGEST, redact
from failstop.alerts import AlertSink
from failstop.errors import CriticalDatabaseError
from failstop.testing import HttpReceiver, sample_alert

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

PLACES = [
    "connection to postgresql://app:{}@db.internal:5432/orders failed",
    "could not reach postgresql+psycopg://{}@db.internal/orders?sslmode=require",
    "see https://hooks.slack.com/services/T000/B000/{}",
    "GET https://api.example.com/v1?limit=1&access_token={}&x=1",
    "no route: ?api_key={}",
    "connection string host=db port=5432 user=app password={} dbname=orders",
    "connection string password='{}' host=db",
    'settings {{"password": "{}", "pool": 5}}',
    "settings {{'routing_key': '{}'}}",
    "PGPASSWORD={} psql",
    "client_secret: {}",
    "X-Api-Key: {}",
    "Authorization: Bearer {}",
    "authorization: Token {} extra",
    "sent bearer {} to the gateway",
    "Cookie: session={}; a=b",
    "[SQL: INSERT INTO t (a) VALUES (%(a)s)]\n[parameters: {{'a': '{}'}}]",
    "[parameters: ('{}', 1)]",
    "INSERT INTO users (name) VALUES ('{}')",
    "insert into users values ('{}')",
    "SELECT * FROM users WHERE name = '{}'",
    "select name from users where name = '{}'",
    "SELECT set_config('a', '{}', true)",
    "update users set name = '{}' where id = 1",
    "UPDATE users SET name = '{}'",
    "delete from users where name = '{}'",
    "with t as (select '{}') table t",
    "ALTER ROLE app PASSWORD '{}'",
    "create user app identified by '{}'",
    "copy users from '{}'",
    'duplicate key value\nDETAIL:  Key (email)=("{}") already exists.',
    "Failing row contains (1, {}, null).",
    "LINE 1: ... = '{}'\n                ^",
    "RuntimeError('lost\\nDETAIL: Key (a)=({})')",
    "RuntimeError('lost\\ninsert into users values ({})')",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
]

# Letters, digits and every sign a password holds; long enough to be found by no accident.
LETTERS = "BCDFGHJKLMNPQRSTVWXZ" + string.digits + string.punctuation + "äß€🔥"
secret_texts = st.text(st.sampled_from(LETTERS), min_size=12, max_size=40).map(
    # no eight letters in a row that stand elsewhere too, such as "xception" or "========"
    lambda text: "Q".join(text[start : start + 3] for start in range(0, len(text), 3))
)


def parts(secret: str) -> set[str]:
    """Every eight letters of `secret` in a row: a half is a leak too."""
    return {secret[start : start + 8] for start in range(len(secret) - 7)}


def shows(text: str, secret: str, harmless: str) -> bool:
    return any(part in text and part not in harmless for part in parts(secret))


@given(place=st.sampled_from(PLACES), secret=secret_texts, before=st.text(max_size=30))
@settings(max_examples=1000, deadline=None)
def test_a_secret_is_removed_wherever_it_stands(place: str, secret: str, before: str) -> None:
    if place.count("'{}'"):
        secret = secret.replace("'", "").replace("\\", "")
    if place.count('"{}"'):
        secret = secret.replace('"', "").replace("\\", "")
    text = f"{before}\n{place.format(secret)}\nend"
    assert not shows(redact(text), secret, before + place.format(""))


@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_looked_at(place: str) -> None:
    assert "hunter2-hunter2" not in redact(place.format("hunter2-hunter2"))


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("basic YXBwOmh1bnRlcjI= sent", "basic *** sent"),
        ("host=db.internal user=app lost", "host=*** user=*** lost"),
        ("got eyJhbGciOi.eyJzdWIi.c2lnbg back", "got *** back"),
        ("used xoxb-12-34-abc", "used ***"),
        ("used ghp_abcDEF123", "used ***"),
        ("used AKIAIOSFODNN7EXAMPLE", "used ***"),
        ("a\x00b\u202ec\r\nd", "a b c  d"),
        ("\ud800", " "),
        ("", ""),
    ],
)
def test_credentials_of_a_known_form_are_removed_alone(text: str, safe: str) -> None:
    assert redact(text) == safe


@pytest.mark.parametrize(
    "text",
    [
        "the server closed the connection",
        "halted by ann@example.com: update the config, then select another one from the list",
        "reset by verified recovery: stable for 3 probes",
        "order order-8d3f2b9c4e5a4f6b8c7d6e5f4a3b2c1d is in doubt",
        "checks passed: 5, failed: 0",
        "answered ROLLBACK to a COMMIT (40P01)",
        "FORCED although these checks failed: witness, timeline",
        "Datenbank weg, wir prüfen 🔥",
    ],
)
def test_what_a_person_wrote_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_the_answer_is_one_printable_line(text: str) -> None:
    assert redact(text).isprintable()


def test_a_long_text_is_cut_with_a_mark() -> None:
    assert redact("x" * 100_000) == "x" * LONGEST + "… (cut)"


@pytest.mark.parametrize(
    "text",
    [
        "pass" * 5000,
        "a:// " * 4000,
        "select " * 3000,
        "select a " * 2000,
        "'" * LONGEST,
        "password='" + "''" * 8000,
        "copy a (" * 2000,
        "Key (" * 4000,
        "-----BEGIN " * 1500,
        "with a as " * 1600,
        " " * LONGEST,
        "a" * LONGEST,
        "eyJa.a" * 2700,
    ],
)
def test_no_text_is_slow(text: str) -> None:
    """A pattern that is not linear would take minutes here; the suite's own bound would end it."""
    redact(text)


def _error(place: str, secret: str) -> CriticalDatabaseError:
    """An error as a driver makes it: the secret in message, statement, parameters and cause."""
    text = place.format(secret)
    try:
        try:
            try:
                raise ConnectionError(text)
            except ConnectionError as driver:
                raise OperationalError(
                    f"SELECT '{secret}'", {"password": secret}, driver
                ) from driver
        except OperationalError as error:
            raise CriticalDatabaseError(f"lost: {error}") from error
    except CriticalDatabaseError as critical:
        return critical


@given(place=st.sampled_from(PLACES), secret=secret_texts)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_sink_shows_a_secret_that_an_error_carries(
    receiver: HttpReceiver,
    all_sinks: Callable[[], list[AlertSink]],
    caplog: pytest.LogCaptureFixture,
    place: str,
    secret: str,
) -> None:
    secret = "".join(letter for letter in secret if letter not in "'\"\\") + "hunter2-hunter2"
    error = _error(place, secret)
    alert = sample_alert(
        title=f"trading-api: {error}",
        message=str(error),
        kind=place.format(secret),
        host=f"host {place.format(secret)}",
        details={
            "cause": repr(error.__cause__),
            "trace": "".join(traceback.format_exception(error)),
            "password": secret,
            place.format(secret): "a name can be foreign too",
        },
    )
    receiver.requests.clear()
    caplog.clear()
    caplog.set_level(1)
    sinks = all_sinks()
    for sink in sinks:
        sink.send(alert)
    assert len(receiver.requests) == len(sinks)
    came = [
        json.dumps(json.loads(request.body), ensure_ascii=False) for request in receiver.requests
    ]
    formatter = logging.Formatter("%(name)s %(message)s")
    logged = [formatter.format(record) for record in caplog.records]
    assert not [text for text in (*came, *logged) if shows(text, secret, place.format(""))]
