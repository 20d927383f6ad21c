"""The FastAPI example with routes that provoke what a healthy database may say."""

from __future__ import annotations

from threading import Barrier

from fastapi import FastAPI
from sqlalchemy import text

from failstop import Database
from fastapi_app import create_app as create_example

PATIENCE = 10.0
both_locked = Barrier(2)


def create_app() -> FastAPI:
    app = create_example()
    database: Database = app.state.database

    @app.post("/test/syntax-error")
    def break_syntax() -> None:
        database.query("SELEC 1")

    @app.post("/test/lock")
    def lock(first: str, second: str) -> None:
        """Lock two rows in this order, when the other request has its first one too."""
        with database.transaction() as connection:
            for position, name in enumerate((first, second)):
                connection.execute(LOCK, {"name": name})
                if position == 0:
                    both_locked.wait(PATIENCE)

    return app


LOCK = text("UPDATE trades SET quantity = quantity WHERE order_id = :name")
