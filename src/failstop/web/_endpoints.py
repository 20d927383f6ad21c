"""The endpoints: the monitor's last observation with its age; none asks the database itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from failstop._failsafe import FailSafe
from failstop.errors import ConfigurationError
from failstop.recovery import Dependency
from failstop.web._answer import Answer, json_answer

__all__ = ["Endpoints", "database_health", "liveness", "readiness", "system_status"]

METHODS = ("GET", "HEAD")


def system_status(failsafe: FailSafe) -> Answer:
    """Return the whole report: 200 only where it is safe to trade, else 503."""
    status = failsafe.status()
    return json_answer(200 if status.is_operational else 503, status.to_dict())


def database_health(failsafe: FailSafe, database: str | None = None) -> Answer:
    """Return what was last observed of a database: 200 only where that is fresh and good.

    Args:
        failsafe: what watches the database.
        database: its name; None for the first one.
    """
    seen = failsafe.status().database(database)
    return json_answer(200 if seen["status"] == "up" else 503, seen)


def liveness() -> Answer:
    """Return 200: the process runs. An outage of the database is no reason to restart it."""
    return json_answer(200, {"status": "alive"})


def readiness(failsafe: FailSafe) -> Answer:
    """Return 200 only in NORMAL, else 503."""
    state = failsafe.state
    is_ready = failsafe.is_normal
    word = "ready" if is_ready else "not ready"
    return json_answer(200 if is_ready else 503, {"status": word, "state": state.value})


class Endpoints:
    """The endpoints of one service and the paths that are not protected.

    Args:
        failsafe: whose state they show.
        database: the database of `/api/database/health`; None for the first one.
        exempt: paths which are served in every state and without protection; one that ends with
            "/" stands for all below it.

    Raises:
        ConfigurationError: a path does not begin with "/".
    """

    def __init__(
        self,
        failsafe: FailSafe,
        *,
        database: Dependency | None = None,
        exempt: Iterable[str] = (),
    ) -> None:
        if not isinstance(failsafe, FailSafe):
            raise ConfigurationError(f"failsafe= takes a FailSafe, not {type(failsafe).__name__}")
        name = None if database is None else database.name
        self._answers: dict[str, Callable[[], Answer]] = {
            "/api/system/status": lambda: system_status(failsafe),
            "/api/database/health": lambda: database_health(failsafe, name),
            "/livez": liveness,
            "/readyz": lambda: readiness(failsafe),
        }
        self._exempt = (exempt,) if isinstance(exempt, str) else tuple(exempt)
        for path in self._exempt:
            if not path.startswith("/"):
                raise ConfigurationError(f"the exempt path {path!r} must begin with '/'")

    def answer(self, method: str, path: str) -> Answer | None:
        """Return the answer of the endpoint at `path`, None where there is none."""
        make = self._answers.get(path) if method in METHODS else None
        return None if make is None else make()

    def is_exempt(self, path: str) -> bool:
        """Say whether `path` is served in every state and without protection."""
        return any(
            path == each or (each.endswith("/") and path.startswith(each)) for each in self._exempt
        )
