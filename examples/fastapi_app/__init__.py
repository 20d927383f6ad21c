r"""The trading gateway: the FastAPI service that owns the trading database.

    DATABASE_URL=postgresql://… python -m trading.schema
    DATABASE_URL=postgresql://… EXCHANGE_URL=http://… FAILSTOP_STORE=var/gateway.db \
        uvicorn --factory fastapi_app:create_app

With FAILSTOP_ADMIN_TOKEN a person may halt and reset it over HTTP; without there is no such path.

Handlers are plain functions: FastAPI runs them in worker threads, and the protection reaches
there. `install()` protects every route, so they do not mention failstop, but where one calls
another system that is critical.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from failstop import Database, FailSafe, Gateway, KeyInFlightError, Outcome
from failstop.alerts import LoggingSink
from failstop.events import Incident
from failstop.fastapi import install
from failstop.prometheus import instrument
from trading import DuplicateOrderError, Exchange, Order, Reconciliation, Side, TradeService

logger = logging.getLogger(__name__)

OrderId = Annotated[str, Field(pattern=r"^[\w.:-]{1,64}$")]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Amount = Annotated[Decimal, Field(gt=0, max_digits=20, decimal_places=8)]


class OrderRequest(BaseModel):
    """An order as callers send it."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    order_id: OrderId
    user: Name
    symbol: Annotated[str, Field(min_length=1, max_length=16)]
    side: Side
    quantity: Amount
    price: Amount


def create_app() -> FastAPI:
    """Make the service; without its settings there is none."""
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else it tells of every probe
    store = os.environ["FAILSTOP_STORE"]  # a trip outlives the process that saw it
    exchange = Exchange(os.environ["EXCHANGE_URL"])
    failsafe = FailSafe(
        "trading-gateway", store=store, sinks=[LoggingSink()], reduce_only=("cancel",)
    )
    database = Database.connect(os.environ.get("DATABASE_URL"), failsafe, deadline=2.0)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with failsafe:
            yield

    app = FastAPI(title="Trading gateway", lifespan=lifespan)
    install(
        app,
        failsafe=failsafe,
        database=database,
        exempt=("/metrics",),
        operations={"DELETE /api/orders/{order_id}": "cancel"},
        admin_token=os.environ.get("FAILSTOP_ADMIN_TOKEN"),
    )
    app.state.database = database
    add_safety(failsafe, exchange, Reconciliation(exchange, database.engine))
    add_order_routes(app, TradeService(database))
    add_cancel_route(app, exchange, Gateway("exchange", failsafe, probe=exchange.ask))
    add_metrics(app, failsafe)
    return app


def add_safety(failsafe: FailSafe, exchange: Exchange, reconciliation: Reconciliation) -> None:
    """Say what is done when an incident opens, and what else has to be true before it ends."""

    @failsafe.on_trip(timeout=10.0)
    def cancel_open_orders(incident: Incident) -> None:
        exchange.cancel_all()

    @failsafe.check(timeout=5.0)
    def exchange_agrees() -> bool:
        return reconciliation.agrees()

    @failsafe.on_resolved
    def note_outcome(key: str, outcome: Outcome) -> None:
        """Its caller was told UNKNOWN, and learns it by sending the order again."""
        logger.warning("%s is %s", key, outcome)


def add_metrics(app: FastAPI, failsafe: FailSafe) -> None:
    instrument(failsafe)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def add_cancel_route(app: FastAPI, exchange: Exchange, gateway: Gateway) -> None:
    @app.delete("/api/orders/{order_id}", status_code=204)
    def cancel_order(order_id: OrderId) -> None:
        """Served in a halt too, unless the database has failed."""
        with gateway.guard():
            exchange.cancel(order_id)


def add_order_routes(app: FastAPI, trades: TradeService) -> None:
    @app.get("/api/trades")
    def list_trades(user: Annotated[str | None, Query(max_length=64)] = None) -> dict[str, Any]:
        return {"trades": [trade.to_dict() for trade in trades.get_all(user)]}

    @app.post("/api/orders", status_code=201)
    def place_order(request: OrderRequest) -> dict[str, str]:
        try:
            return trades.place(Order(**request.model_dump()))
        except DuplicateOrderError as error:
            raise HTTPException(409, "another order with this id was placed before") from error
        except KeyInFlightError as error:
            raise HTTPException(409, "this order is being placed; ask again") from error
