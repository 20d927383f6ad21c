"""The trading API in Flask."""

from __future__ import annotations

from flask import Flask
from tests.workers.api import OPEN, failsafe, halt, order, whoami

from failstop.flask import FailStop

app = Flask("trading")
FailStop(app, failsafe=failsafe, exempt=OPEN)
app.get("/whoami")(whoami)
app.post("/halt")(halt)
app.get("/order")(order)
