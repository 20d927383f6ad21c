"""The endpoints: the monitor's last observation with its age; none asks the database itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from failstop._failsafe import FailSafe
from failstop.errors import ConfigurationError
from failstop.recovery import Dependency
from failstop.web._accept import HEALTH, HTML, JSON, preferred
from failstop.web._admin import Admin, Done
from failstop.web._answer import Answer, json_answer, page_answer, problem_answer
from failstop.web._health import database_report, health_report, readiness_report
from failstop.web._order import RefusedError
from failstop.web._page import done_page, has_pages, page_headers, refused_page, status_page
from failstop.web._request import Request
from failstop.web._tokens import AdminToken, Tokens

__all__ = [
    "Endpoint",
    "Endpoints",
    "database_health",
    "liveness",
    "readiness",
    "system_status",
]

READS = ("GET", "HEAD")
VARY = {"Vary": "Accept"}
LIVE = "live"
"""The query of a page that renews itself: it is answered 200, for a browser logs each 503."""
WATCHED = "refresh"


def system_status(
    failsafe: FailSafe, request: Request | None = None, *, has_orders: bool = False
) -> Answer:
    """Return the whole report: 200 only where it is safe to trade, else 503.

    Args:
        failsafe: whose report.
        request: whose `Accept` says in which form: JSON, health+json, or a page for people.
        has_orders: whether the page has the forms to halt and reset.
    """
    request = request or Request()
    status = failsafe.status()
    code = 200 if status.is_operational else 503
    media = _media(request, JSON, HEALTH, *_pages())
    if media == HTML:
        names = {each.partition("=")[0] for each in request.query.split("&")}
        now = datetime.now(UTC)
        page = status_page(status, now, has_orders=has_orders, is_watched=WATCHED in names)
        return page_answer(200 if LIVE in names else code, page, {**page_headers(), **VARY})
    report = health_report(status) if media == HEALTH else status.to_dict()
    return json_answer(code, report, media, VARY)


def database_health(
    failsafe: FailSafe, database: str | None = None, request: Request | None = None
) -> Answer:
    """Return what was last observed of a database: 200 only where that is fresh and good.

    Args:
        failsafe: what watches the database.
        database: its name; None for the first one.
        request: whose `Accept` says in which form: JSON or health+json.
    """
    media = _media(request or Request(), JSON, HEALTH)
    status = failsafe.status()
    seen = status.database(database)
    report = database_report(status, database) if media == HEALTH else seen
    return json_answer(200 if seen["status"] == "up" else 503, report, media, VARY)


def liveness() -> Answer:
    """Return 200: the process runs. An outage of the database is no reason to restart it."""
    return json_answer(200, {"status": "alive"})


def readiness(failsafe: FailSafe, request: Request | None = None) -> Answer:
    """Return 200 only in NORMAL, else 503."""
    media = _media(request or Request(), JSON, HEALTH)
    state = failsafe.state.value
    is_ready = failsafe.is_normal
    report = {"status": "ready" if is_ready else "not ready", "state": state}
    if media == HEALTH:
        report = readiness_report(failsafe.service, state, is_ready)
    return json_answer(200 if is_ready else 503, report, media, VARY)


def _pages() -> tuple[str, ...]:
    """Return what pages are offered as: nothing without jinja2, which `failstop[web]` brings."""
    return (HTML,) if has_pages() else ()


def _media(request: Request, *offered: str) -> str:
    return preferred(request.headers.get("accept"), offered)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What answers at one path.

    `takes_body` says whether it reads the request's body, of which an adapter gives it at most
    `MOST_BODY` + 1 bytes; `is_blocking` whether it may read a file or wait for a check round, which
    must not be done on an event loop's thread.
    """

    answer: Callable[[Request], Answer]
    takes_body: bool = False
    is_blocking: bool = True


class Endpoints:
    """The endpoints of one service and the paths that are not protected.

    Args:
        failsafe: whose state they show.
        database: the database of `/api/database/health`; None for the first one.
        exempt: paths which are served in every state and without protection; one that ends with
            "/" stands for all below it.
        admin_token: one token, or several by name, with which a person may halt and reset over
            HTTP; without one there is nothing at these paths.

    Raises:
        ConfigurationError: a path does not begin with "/", or a token is none.
    """

    def __init__(
        self,
        failsafe: FailSafe,
        *,
        database: Dependency | None = None,
        exempt: Iterable[str] = (),
        admin_token: AdminToken = None,
    ) -> None:
        if not isinstance(failsafe, FailSafe):
            raise ConfigurationError(f"failsafe= takes a FailSafe, not {type(failsafe).__name__}")
        name = None if database is None else database.name
        tokens = Tokens.of(admin_token)
        self._reads: dict[str, Endpoint] = {
            "/api/system/status": Endpoint(
                lambda request: system_status(
                    failsafe, request, has_orders=tokens is not None and has_pages()
                )
            ),
            "/api/database/health": Endpoint(
                lambda request: database_health(failsafe, name, request)
            ),
            "/livez": Endpoint(lambda request: liveness(), is_blocking=False),
            "/readyz": Endpoint(lambda request: readiness(failsafe, request), is_blocking=False),
        }
        self._orders = {} if tokens is None else _orders(failsafe, Admin(failsafe, tokens))
        self._exempt = (exempt,) if isinstance(exempt, str) else tuple(exempt)
        for path in self._exempt:
            if not path.startswith("/"):
                raise ConfigurationError(f"the exempt path {path!r} must begin with '/'")

    def find(self, method: str, path: str) -> Endpoint | None:
        """Return what answers at `path`, None where that is the application's."""
        if (order := self._orders.get(path)) is not None:
            return order
        return self._reads.get(path) if method in READS else None

    def is_exempt(self, path: str) -> bool:
        """Say whether `path` is served in every state and without protection."""
        return any(
            path == each or (each.endswith("/") and path.startswith(each)) for each in self._exempt
        )


# What a person may do


def _orders(failsafe: FailSafe, admin: Admin) -> dict[str, Endpoint]:
    def endpoint(work: Callable[[Request], Done], *methods: str) -> Endpoint:
        def answer(request: Request) -> Answer:
            return _order(failsafe.service, methods, work, request)

        return Endpoint(answer, takes_body="POST" in methods)

    return {
        "/admin/status": endpoint(admin.status, *READS),
        "/admin/plan": endpoint(admin.plan, *READS, "POST"),
        "/admin/halt": endpoint(admin.halt, "POST"),
        "/admin/force-recovery-reset": endpoint(admin.reset, "POST"),
    }


def _order(
    service: str, methods: tuple[str, ...], work: Callable[[Request], Done], request: Request
) -> Answer:
    """Do an order; a browser that sent a form is answered with a page."""
    allow = {"Allow": ", ".join((*methods, "OPTIONS"))}
    if request.method == "OPTIONS":
        return Answer(204, {**allow, "Cache-Control": "no-store"}, b"")
    is_page = "POST" in methods and _media(request, JSON, *_pages()) == HTML
    try:
        if request.method not in methods:
            raise _not_allowed(allow)
        done = work(request)
    except RefusedError as refused:
        headers = {**refused.headers, **VARY}
        if not is_page:
            return problem_answer(refused.status, _problem(refused), headers)
        page = refused_page(service, refused)
        return page_answer(refused.status, page, {**page_headers(), **headers})
    if not is_page:
        return json_answer(200, done.facts, JSON, VARY)
    return page_answer(200, done_page(service, done), {**page_headers(), **VARY})


def _not_allowed(allow: dict[str, str]) -> RefusedError:
    refused = RefusedError(
        405, "not-allowed", "This is not done by such a request", f"Allowed: {allow['Allow']}."
    )
    refused.headers.update(allow)
    return refused


def _problem(refused: RefusedError) -> dict[str, object]:
    facts = {
        name: value.to_dict() if name == "plan" else value for name, value in refused.facts.items()
    }
    return {
        "type": f"https://failstop.dev/problems/{refused.name}",
        "title": refused.title,
        "status": refused.status,
        "detail": refused.detail,
        **facts,
    }
