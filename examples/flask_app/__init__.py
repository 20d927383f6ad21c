"""The bot API: a Flask service that needs the trading gateway and a database.

    DATABASE_URL=postgresql://… python -m trading.schema
    DATABASE_URL=postgresql://… TRADING_GATEWAY_URL=http://… EXCHANGE_URL=http://… \
        FAILSTOP_STORE=var/bot.db waitress-serve --call flask_app:create_app

Whichever of the two is gone, the answer is 503: no empty list, no default settings. The exchange is
there for the worst case: when the bots cannot be steered, their orders are cancelled, past the
gateway. With FAILSTOP_ADMIN_TOKEN a person may halt and reset the service over HTTP.
"""

import atexit
import logging
import os
from decimal import Decimal, InvalidOperation

from flask import Blueprint, Flask, Response, abort, current_app, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from failstop import Database, FailSafe
from failstop.alerts import LoggingSink
from failstop.events import Incident
from failstop.flask import FailStop
from failstop.prometheus import instrument
from trading import BotStateService, Exchange, GatewayClient, UserSettingsService

MOST = 10**12
"""What the column of a position can hold."""

bot = Blueprint("bot", __name__, url_prefix="/api/bot")


def create_app() -> Flask:
    """Make the service and start its protection; without its settings there is none."""
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else it tells of every probe
    store = os.environ["FAILSTOP_STORE"]  # a trip outlives the process that saw it
    failsafe = FailSafe("bot-api", store=store, sinks=[LoggingSink()], reduce_only=("cancel",))
    database = Database.connect(os.environ.get("DATABASE_URL"), failsafe, deadline=2.0)
    app = Flask(__name__)
    FailStop(
        app,
        failsafe=failsafe,
        database=database,
        exempt=("/metrics",),
        operations={"DELETE /api/bot/orders/{order_id}": "cancel"},
        admin_token=os.environ.get("FAILSTOP_ADMIN_TOKEN"),
    )
    app.extensions["trading"] = Services(database, failsafe, os.environ["TRADING_GATEWAY_URL"])
    app.register_blueprint(bot)
    app.add_url_rule("/metrics", view_func=metrics)
    exchange = Exchange(os.environ["EXCHANGE_URL"])

    @failsafe.on_trip(timeout=10.0)
    def cancel_open_orders(incident: Incident) -> None:
        exchange.cancel_all()

    instrument(failsafe)
    failsafe.start()
    atexit.register(failsafe.close)
    return app


def metrics() -> Response:
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)


class Services:
    """What the routes use."""

    def __init__(self, database: Database, failsafe: FailSafe, gateway_url: str) -> None:
        self.gateway = GatewayClient(gateway_url, failsafe)
        self.bots = BotStateService(database)
        self.settings = UserSettingsService(database)


def services() -> Services:
    found: Services = current_app.extensions["trading"]
    return found


@bot.get("/trades")
def trades() -> ResponseReturnValue:
    return {"trades": services().gateway.trades(request.args.get("user"))}


@bot.delete("/orders/<order_id>")
def cancel(order_id: str) -> ResponseReturnValue:
    services().gateway.cancel(order_id)
    return "", 204


@bot.get("/state")
def state() -> ResponseReturnValue:
    return services().bots.get_or_create(required_user()).to_dict()


@bot.put("/settings")
def settings() -> ResponseReturnValue:
    user, (max_position, is_paper) = required_user(), required_settings()
    stored = services().settings.update(user, max_position=max_position, is_paper=is_paper)
    return stored.to_dict()


def required_settings() -> tuple[Decimal, bool]:
    given = request.get_json()
    try:
        max_position, is_paper = Decimal(given["maxPosition"]), given["isPaper"]
    except (KeyError, TypeError, InvalidOperation):
        abort(400, "maxPosition (a decimal text) and isPaper (true or false) are required")
    if not (max_position.is_finite() and 0 <= max_position < MOST):
        abort(400, f"maxPosition must be from zero to below {MOST}")
    if not isinstance(is_paper, bool):
        abort(400, "isPaper must be true or false")
    return max_position, is_paper


def required_user() -> str:
    user = request.args.get("user", "")
    if not 0 < len(user) <= 64:
        abort(400, "say whose bot: ?user=")
    return user
