r"""The trading gateway: the FastAPI service that owns the trading database.

    DATABASE_URL=postgresql://… python -m trading.schema
    DATABASE_URL=postgresql://… FAILSTOP_STORE=var/gateway.db \
        uvicorn --factory fastapi_app:create_app

Handlers are plain functions: FastAPI runs them in worker threads, and the protection reaches
there. None of them mentions failstop, because `install()` protects every route.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from failstop import Database, FailSafe, KeyInFlightError
from failstop.alerts import LoggingSink
from failstop.fastapi import install
from trading import DuplicateOrderError, Order, Side, TradeService

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
    store = os.environ["FAILSTOP_STORE"]  # a trip outlives the process that saw it
    failsafe = FailSafe("trading-gateway", store=store, sinks=[LoggingSink()])
    database = Database.connect(os.environ.get("DATABASE_URL"), failsafe, deadline=2.0)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with failsafe:
            yield

    app = FastAPI(title="Trading gateway", lifespan=lifespan)
    install(app, failsafe=failsafe, database=database)
    app.state.database = database
    add_routes(app, TradeService(database))
    return app


def add_routes(app: FastAPI, trades: TradeService) -> None:
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
