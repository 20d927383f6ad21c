"""The trading API in FastAPI."""

from __future__ import annotations

from fastapi import FastAPI
from tests.workers.api import OPEN, failsafe, halt, order, whoami

from failstop.fastapi import install

app = FastAPI()
install(app, failsafe=failsafe, exempt=OPEN)
app.get("/whoami")(whoami)
app.post("/halt")(halt)
app.get("/order")(order)
