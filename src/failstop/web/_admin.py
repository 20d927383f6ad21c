"""What a person with a token may do over HTTP: see the plan, halt, reset.

Nothing here needs the database or the store to work; what could not be done because they do not is
said. There is no cookie, so no other site can order anything in a person's name: a browser that
says that it was sent by one is refused even so. Never here: a framework, or what a page looks like.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from failstop._failsafe import FailSafe
from failstop.errors import ConfigurationError, ResetRefusedError
from failstop.status import ResetPlan, SystemStatus
from failstop.web._attempts import Attempts
from failstop.web._order import Order, RefusedError, is_form, read_order
from failstop.web._request import Request
from failstop.web._tokens import Tokens

__all__ = ["Admin", "Done"]

logger = logging.getLogger("failstop")

BEARER = {"WWW-Authenticate": 'Bearer realm="failstop"'}


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, or shown: a title and sentences for people, `facts` for programs.

    `left` says what could not be done.
    """

    title: str
    detail: str
    facts: dict[str, Any]
    left: tuple[str, ...] = ()
    plan: ResetPlan | None = None


class Admin:
    """Do what a person with one of `tokens` orders.

    Args:
        failsafe: what is halted and reset.
        tokens: who may.
        clock: seconds that only go up, for failed attempts.
    """

    def __init__(
        self, failsafe: FailSafe, tokens: Tokens, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failsafe = failsafe
        self._tokens = tokens
        self._clock = clock
        self._attempts = Attempts()

    # What there is

    def status(self, request: Request) -> Done:
        """Return the whole report, with the keys that are in doubt unmasked.

        Raises:
            RefusedError: the request is not entitled.
        """
        self._entitled(request, None)
        status = self._failsafe.status()
        return Done("Status", status.message, status.to_dict(has_whole_keys=True))

    def plan(self, request: Request) -> Done:
        """Make every check now, and return what a reset would release; change nothing.

        Raises:
            RefusedError: the request is not entitled, or nothing runs.
        """
        order = self._order(request, "actor", "reason", "epoch", "force")
        self._entitled(request, order)
        plan = self._plan()
        said = "It would be taken." if plan.is_allowed else "It would be refused."
        if plan.incident is None:
            said = "There is nothing to reset."
        return Done("What a reset would do", said, plan.to_dict(), plan=plan)

    def halt(self, request: Request) -> Done:
        """Stop the service by hand; a right token is never kept from it by others' attempts.

        Raises:
            RefusedError: the request is not entitled or not complete, or the FailSafe is closed.
        """
        order = self._order(request, "actor", "reason")
        who = self._entitled(request, order, is_limited=False)
        actor, reason = _said(order)
        try:
            halted = self._failsafe.halt(actor=f"{actor} (token {who})", reason=reason)
        except ConfigurationError as closed:
            raise _not_running(closed) from closed
        status = self._failsafe.status()
        left = (*halted.unproven, *_not_done(status))
        facts = {
            "result": "halted",
            "state": status.state.value,
            "epoch": status.epoch,
            "incidentId": halted.incident_id,
            "notDone": list(left),
        }
        said = "No guarded operation is sent by this process until a person resets it."
        return Done("Halted", said, facts, left)

    def reset(self, request: Request) -> Done:
        """Leave fail-safe mode, where every check passes or force overrules them.

        Raises:
            RefusedError: the request is not entitled or not complete, or the reset is refused; it
                has the plan then, and the newer epoch.
        """
        order = self._order(request, "actor", "reason", "epoch", "force")
        who = self._entitled(request, order)
        actor, reason = _said(order)
        epoch = self._require_epoch(order)
        try:
            self._failsafe.reset(
                actor=f"{actor} (token {who})", reason=reason, force=order.force, epoch=epoch
            )
        except ResetRefusedError as refused:
            raise self._refused(refused) from refused
        except ConfigurationError as closed:
            raise _not_running(closed) from closed
        status = self._failsafe.status()
        facts = {
            "result": "reset",
            "state": status.state.value,
            "epoch": status.epoch,
            "forced": order.force,
        }
        return Done("Reset", "Guarded operations are sent again.", facts)

    # Who

    def _order(self, request: Request, *fields: str) -> Order:
        if request.method in ("GET", "HEAD"):
            return Order()
        _require_same_site(request)
        return read_order(request, fields)

    def _entitled(self, request: Request, order: Order | None, *, is_limited: bool = True) -> str:
        """Return the name of the token.

        Raises:
            RefusedError: there is none, it is wrong, or the client has to wait.
        """
        wait = self._attempts.wait(request.client, self._clock())
        name = None if wait and is_limited else self._name(request, order)
        if name is not None:
            return name
        if wait:
            raise _too_many(wait)
        self._attempts.fail(request.client, self._clock())
        logger.warning("a request to %s had no token, or a wrong one", request.path)
        raise _not_entitled(is_form(request))

    def _name(self, request: Request, order: Order | None) -> str | None:
        header = request.headers.get("authorization")
        if header is None:
            presented = order.token if order is not None else None
        else:
            scheme, _, presented = header.partition(" ")
            presented = presented.strip() if scheme.lower() == "bearer" else None
        return None if not presented else self._tokens.name_of(presented)

    # What else can come of it

    def _require_epoch(self, order: Order) -> int:
        if order.epoch is None:
            detail = "Name the epoch that you saw: the status and the plan show it."
            raise RefusedError(400, "unreadable", "The reset names no epoch", detail)
        now = self._failsafe.epoch
        if order.epoch != now:
            raise RefusedError(
                409,
                "epoch-stale",
                "Not reset: the state has changed since",
                f"You saw epoch {order.epoch}, it is {now} now. Look at the state again, and "
                "reset that epoch if it is still right.",
                epoch=now,
            )
        return order.epoch

    def _plan(self) -> ResetPlan:
        try:
            return self._failsafe.plan_reset()
        except ConfigurationError as closed:
            raise _not_running(closed) from closed

    def _refused(self, refused: ResetRefusedError) -> RefusedError:
        plan = self._plan()
        return RefusedError(
            409,
            "reset-refused",
            "Not reset",
            f"{refused}.",
            epoch=plan.epoch,
            failed=list(refused.checks),
            plan=plan,
        )


def _said(order: Order) -> tuple[str, str]:
    if order.actor is None or order.reason is None:
        detail = "Say who orders it and why: actor and reason."
        raise RefusedError(400, "unreadable", "The order names no actor or no reason", detail)
    return order.actor, order.reason


def _not_done(status: SystemStatus) -> tuple[str, ...]:
    """Return what a halt could not do."""
    if not status.is_durable:
        return ("there is no store: other processes of the service do not hear of this halt",)
    if status.store_error is None:
        return ()
    said = (
        f"the halt is not in the store yet: {status.store_error}; until it is, other processes do "
        "not hear of it, and a restart forgets it"
    )
    return (said,)


def _require_same_site(request: Request) -> None:
    """Refuse what a browser sends for another site.

    Raises:
        RefusedError: it does.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_own = site.strip().lower() in ("same-origin", "none")
    else:
        is_own = origin is None or _place(origin) == request.headers.get("host", "").lower()
    if not is_own:
        raise RefusedError(
            403,
            "cross-site",
            "Another site has sent this request",
            "Order it from the status page of this service, or without a browser. Behind a proxy "
            "the service must be given the Host header that the browser sent.",
        )


def _place(origin: str) -> str | None:
    """Return the host and port of an origin, None for one that has none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _not_entitled(is_from_form: bool) -> RefusedError:
    where = "in the form" if is_from_form else "as Authorization: Bearer …"
    refused = RefusedError(
        401,
        "not-entitled",
        "The token is not right",
        f"Nothing was done. Give one of the service's admin tokens {where}.",
    )
    refused.headers.update(BEARER)
    return refused


def _too_many(wait: int) -> RefusedError:
    refused = RefusedError(
        429,
        "too-many-attempts",
        "Too many wrong tokens",
        f"Nothing was done. Try again in {wait} seconds; a halt with the right token is taken.",
    )
    refused.headers["Retry-After"] = str(wait)
    return refused


def _not_running(error: ConfigurationError) -> RefusedError:
    return RefusedError(503, "not-running", "The service does not run", f"{error}.")
