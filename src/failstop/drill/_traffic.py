"""The clients of the drill: they send orders and reads without a pause and keep every answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

__all__ = ["CLIENTS", "NO_EFFECT", "Answer", "Order", "Traffic", "fault_of"]

CLIENTS = 4
PAUSE = 0.02
PATIENCE = 30.0
"""Seconds after which an answer counts as missing."""
IDLE = 1.0
"""Seconds after which an idle connection is closed, before the server (5 s) does: a request on its
way to a server that closes gets no answer, and nobody is at fault."""
READ_EVERY = 5
NO_EFFECT = ("NOT_STARTED", "ROLLED_BACK")
"""The outcomes after which an order may be sent again."""


@dataclass(slots=True)
class Order:
    """One order, with what was answered each time it was sent."""

    order_id: str
    quantity: int
    answers: list[Answer] = field(default_factory=list)

    @property
    def is_accepted(self) -> bool:
        """True where an answer said that it is placed."""
        return any(answer.status == 201 for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `status` is None where there was none; the times are those of the wall clock."""

    is_read: bool
    began: float
    ended: float
    status: int | None
    body: Any

    @property
    def details(self) -> dict[str, Any]:
        """The details of a failure response, empty for any other answer."""
        found = self.body.get("details") if isinstance(self.body, dict) else None
        return found if isinstance(found, dict) else {}


class Traffic:
    """The clients, while `run()` is entered; the ids of their orders begin with `prefix`.

    Of the orders that may be sent again every other one is, until it is accepted, and the others
    are given up: so the books show whether "safe to retry" was true in both of its meanings.
    """

    def __init__(self, url: str, prefix: str) -> None:
        limits = httpx.Limits(max_connections=None, keepalive_expiry=IDLE)
        self._http = httpx.AsyncClient(
            base_url=url, timeout=PATIENCE, limits=limits, trust_env=False
        )
        self._prefix = prefix
        self._numbers = itertools.count(1)
        self.orders: list[Order] = []
        self.answers: list[Answer] = []

    @contextlib.asynccontextmanager
    async def run(self, clients: int = CLIENTS) -> AsyncIterator[None]:
        """Send until the block ends, then wait for the last answers."""
        async with self._http, self.more(clients):
            yield

    @contextlib.asynccontextmanager
    async def more(self, clients: int) -> AsyncIterator[None]:
        """Send from more clients at a time until the block ends."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._client(stop)) for _ in range(clients)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def wait_for_accepted(self, count: int, seconds: float) -> bool:
        """Wait up to `seconds` until `count` more orders are accepted; say whether."""
        seen, limit = len(self.answers), time.monotonic() + seconds
        while time.monotonic() < limit:
            if sum(each.status == 201 for each in self.answers[seen:]) >= count:
                return True
            await asyncio.sleep(PAUSE)
        return False

    async def _client(self, stop: asyncio.Event) -> None:
        again: Order | None = None
        for turn in itertools.count(1):
            if stop.is_set():
                return
            if turn % READ_EVERY == 0:
                await self._send("GET", None)
            else:
                order = again or self._next_order()
                answer = await self._send("POST", order)
                is_resent = order.quantity % 2 == 0 and answer.details.get("safeToRetry") is True
                again = order if is_resent else None
            await asyncio.sleep(PAUSE)

    def _next_order(self) -> Order:
        number = next(self._numbers)
        order = Order(f"{self._prefix}{number}", number)
        self.orders.append(order)
        return order

    async def _send(self, method: str, order: Order | None) -> Answer:
        content = {"order_id": order.order_id, "quantity": order.quantity} if order else None
        began = time.time()
        try:
            got = await self._http.request(method, "/orders", json=content)
        except httpx.HTTPError:
            status, body = None, None
        else:
            status, body = got.status_code, _content(got)
        answer = Answer(order is None, began, time.time(), status, body)
        self.answers.append(answer)
        if order is not None:
            order.answers.append(answer)
        return answer


def _content(response: httpx.Response) -> Any:
    """Return what the JSON of an answer means, None where it is none."""
    try:
        return response.json()
    except ValueError:
        return None


def fault_of(answer: Answer) -> str | None:
    """Say what is wrong with an answer that was given while the service was down."""
    if answer.status is None:
        return "a request was not answered"
    if answer.status != 503:
        return f"a request was answered {answer.status}"
    body, details = answer.body if isinstance(answer.body, dict) else {}, answer.details
    if "orders" in body or "order_id" in body:
        return "a 503 held data"
    if body.get("status") != 503 or not {"outcome", "errorCode", "safeToRetry"} <= details.keys():
        return "a 503 had not the body of a failure response"
    if details["safeToRetry"] is not (details["outcome"] in NO_EFFECT):
        return f"a 503 said {details['outcome']} and safeToRetry {details['safeToRetry']}"
    return None
