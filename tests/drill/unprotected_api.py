"""What the drill must not let pass: an API with the fallbacks that lose money."""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy
from fastapi import FastAPI
from sqlalchemy import insert, select

from failstop.drill._api import Order, metadata, orders, serve

app = FastAPI()
engine = sqlalchemy.create_engine(os.environ["DATABASE_URL"])


@app.post("/orders", status_code=201)
def place_order(order: Order) -> Order:
    try:
        with engine.begin() as connection:
            connection.execute(insert(orders).values(**order.model_dump()))
    except Exception:
        return order  # "we are sure to write it later"
    return order


@app.get("/orders")
def latest_orders() -> dict[str, Any]:
    try:
        with engine.connect() as connection:
            return {"orders": list(connection.scalars(select(orders.c.order_id)))}
    except Exception:
        return {"orders": []}


if __name__ == "__main__":
    metadata.create_all(engine)
    serve(app)
