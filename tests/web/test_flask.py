"""Flask: the extension's own ways, and a database that is killed behind Flask and gunicorn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from flask import Flask, jsonify
from werkzeug.exceptions import InternalServerError

from failstop import (
    ConfigurationError,
    ConnectionFailedError,
    FailSafe,
    Outcome,
    with_fail_fast_protection,
)
from failstop.flask import FailStop

Serve = Callable[[Any], httpx.Client]


def trip(failsafe: FailSafe) -> list[str]:
    """Fail as the guard does: trip first, then raise."""
    failsafe.trip(error := ConnectionFailedError("lost", outcome=Outcome.ROLLED_BACK))
    raise error


def test_flask_takes_the_answer_of_a_decorated_view_as_it_is(
    failsafe: FailSafe, serve_wsgi: Serve
) -> None:
    """In an application that is not protected as a whole."""
    app = Flask("trading")

    @app.get("/orders")
    @with_fail_fast_protection(failsafe=failsafe)
    def orders() -> list[str]:
        return trip(failsafe)

    answer = serve_wsgi(app).get("/orders")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["details"]["outcome"] == "ROLLED_BACK"


def test_the_extension_can_be_bound_later(failsafe: FailSafe, serve_wsgi: Serve) -> None:
    extension = FailStop(failsafe=failsafe)
    app = Flask("trading")
    extension.init_app(app)
    assert app.extensions["failstop"] is failsafe
    assert serve_wsgi(app).get("/readyz").status_code == 200


def test_an_application_is_protected_once(failsafe: FailSafe) -> None:
    app = Flask("trading")
    FailStop(app, failsafe=failsafe)
    with pytest.raises(ConfigurationError, match="already"):
        FailStop(app, failsafe=failsafe)


def test_wrong_settings_are_refused_at_once(failsafe: FailSafe) -> None:
    wrong: Any = "failsafe"
    with pytest.raises(ConfigurationError, match="FailSafe"):
        FailStop(Flask("trading"), failsafe=wrong)
    with pytest.raises(ConfigurationError, match="begin with"):
        FailStop(Flask("trading"), failsafe=failsafe, exempt="metrics")


@pytest.mark.parametrize("setting", ["TESTING", "DEBUG", "PROPAGATE_EXCEPTIONS"])
def test_the_answer_is_the_same_however_flask_is_set(setting: str, failsafe: FailSafe) -> None:
    app = Flask("trading")
    app.config[setting] = True
    FailStop(app, failsafe=failsafe)
    app.add_url_rule("/orders", view_func=lambda: trip(failsafe))
    assert app.test_client().get("/orders").status_code == 503


def test_a_handler_of_every_exception_hides_nothing(failsafe: FailSafe) -> None:
    app = Flask("trading")
    FailStop(app, failsafe=failsafe)

    @app.errorhandler(ConnectionFailedError)
    def handle(error: ConnectionFailedError) -> Any:
        return jsonify([])

    app.add_url_rule("/orders", view_func=lambda: trip(failsafe))
    answer = app.test_client().get("/orders")
    assert answer.status_code == 503
    assert answer.get_json()["details"]["errorCode"] == "CONNECTION_FAILED"


def test_the_applications_own_error_page_stands(failsafe: FailSafe) -> None:
    app = Flask("trading")
    FailStop(app, failsafe=failsafe)

    @app.errorhandler(InternalServerError)
    def page(error: InternalServerError) -> tuple[str, int]:
        return "our page", 500

    @app.get("/orders")
    def orders() -> list[str]:
        try:
            return trip(failsafe)
        except ConnectionFailedError:
            raise LookupError("a bug") from None

    answer = app.test_client().get("/orders")
    assert (answer.status_code, answer.text) == (500, "our page")


def test_a_critical_error_on_an_exempt_path_is_answered_too(failsafe: FailSafe) -> None:
    app = Flask("trading")
    FailStop(app, failsafe=failsafe, exempt=["/metrics"])
    app.add_url_rule("/metrics", view_func=lambda: trip(failsafe))
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
