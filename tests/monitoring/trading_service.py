"""A service of one process as a user would write it; prints its port when it serves."""

from __future__ import annotations

import logging
import os
import sys

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from werkzeug.serving import make_server

from failstop import Database, FailSafe, Recovery
from failstop.alerts import LoggingSink
from failstop.flask import FailStop
from failstop.prometheus import instrument


def main(store: str) -> None:
    failsafe = FailSafe(
        "trading-api",
        store=store,
        sinks=[LoggingSink()],
        recovery=Recovery(probe_interval=0.2, consecutive=2),
    )
    database = Database.connect(os.environ["DATABASE_URL"], failsafe, deadline=1.0)
    instrument(failsafe)
    app = Flask("trading")
    FailStop(app, failsafe=failsafe, database=database, exempt="/metrics")

    @app.post("/orders/<key>")
    def place(key: str) -> dict[str, str]:
        with database.transaction(key=key) as connection:
            connection.execute(text("INSERT INTO orders VALUES (:key)"), {"key": key})
        return {"order": key}

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with failsafe:
        server = make_server("127.0.0.1", 0, app, threaded=True)
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
