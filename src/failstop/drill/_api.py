"""The small trading API that the drill breaks: `python -m failstop.drill._api`, for the drill.

It tells its parent what happens to it, a JSON line each on standard output.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, insert, select

from failstop import AsyncDatabase, FailSafe, Recovery
from failstop.alerts import Alert
from failstop.events import Event, Reset, Tripped
from failstop.fastapi import install

__all__ = ["Order", "create_app", "metadata", "orders", "serve", "tell"]

metadata = MetaData()
orders = Table(
    os.environ.get("FAILSTOP_DRILL_ORDERS", "orders"),
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("order_id", Text, nullable=False),  # not unique: a duplicate must be able to show
    Column("quantity", Integer, nullable=False),
)
LATEST = 10


class Order(BaseModel):
    """What a client of the drill sends."""

    order_id: str
    quantity: int


class LineSink:
    """Where the drill's alerts go: to the process that runs the drill."""

    name = "drill"

    def send(self, alert: Alert) -> None:
        """Write one line."""
        tell(
            "alert",
            action=alert.action.value,
            title=alert.title,
            incident=alert.incident_id,
            occurred_at=alert.occurred_at.timestamp(),
        )


def create_app(url: str, store: str) -> FastAPI:
    """Make the API: orders in, the latest orders out."""
    recovery = Recovery(probe_interval=0.25, consecutive=3, round_timeout=2.0)
    service = os.environ.get("FAILSTOP_DRILL_SERVICE", "drill")
    failsafe = FailSafe(service, store=store, sinks=[LineSink()], recovery=recovery)
    failsafe.subscribe(tell_event)
    database = AsyncDatabase.connect(
        url,
        failsafe,
        name="trading",
        deadline=2.0,
        connect_deadline=2.0,
        pool_size=int(os.environ.get("FAILSTOP_DRILL_POOL", "20")),
        max_overflow=0,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await database.create_schema()
        with failsafe:
            async with database.transaction() as connection:
                await connection.run_sync(metadata.create_all)
            yield

    app = FastAPI(lifespan=lifespan)
    token = os.environ.get("FAILSTOP_DRILL_TOKEN")
    install(app, failsafe=failsafe, database=database, admin_token=token)

    @app.post("/orders", status_code=201)
    async def place_order(order: Order) -> Order:
        async with database.transaction(key=order.order_id) as connection:
            await connection.execute(insert(orders).values(**order.model_dump()))
        return order

    @app.get("/orders")
    async def latest_orders() -> dict[str, Any]:
        found = await database.query(select(orders).order_by(orders.c.id.desc()).limit(LATEST))
        return {"orders": [row.order_id for row in found]}

    return app


def tell_event(event: Event) -> None:
    """Tell the drill when the state changed."""
    match event:
        case Tripped(incident=incident):
            code, cause = incident.error_code.value, incident.cause
            tell("tripped", code=code, cause=cause, occurred_at=event.occurred_at.timestamp())
        case Reset(reason=reason):
            tell("recovered", reason=reason, occurred_at=event.occurred_at.timestamp())


def tell(what: str, **facts: Any) -> None:
    """Write one line to the drill, at once."""
    line = json.dumps({"what": what, **facts}) + "\n"
    os.write(sys.stdout.fileno(), line.encode())  # whole, whichever thread writes at the same time


def serve(app: FastAPI) -> None:
    """Serve on a free port of the loopback interface, until the drill is gone."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
    tell("listening", port=listener.getsockname()[1])
    server.run(sockets=[listener])


def _stop_with_parent(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it mourns each connection
    serve(create_app(os.environ["DATABASE_URL"], os.environ["FAILSTOP_STORE"]))
