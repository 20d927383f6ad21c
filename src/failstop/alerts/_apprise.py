"""Alerts to whatever Apprise reaches: e-mail, Teams, Telegram and some hundred more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

from failstop._settings import require_seconds, require_text
from failstop.alerts._alert import Alert, AlertAction, DeliveryError, Severity
from failstop.alerts._delivery import (
    TIMEOUT,
    Reply,
    Wire,
    facts,
    is_loopback,
    loaded,
    quiet,
    readable,
)
from failstop.errors import ConfigurationError

if TYPE_CHECKING:
    from apprise import Apprise

__all__ = ["AppriseSink"]

LOGGERS = ("apprise", "urllib3.connectionpool", "urllib3.util.retry", "requests_oauthlib")


class AppriseSink:
    """Send each alert to every one of the Apprise URLs.

    Where some of several took an alert, sending it again goes to the others only; yet one slow
    service delays those behind it, so give a service that must not wait a sink of its own. Needs
    the extra `apprise`.

    Args:
        urls: one Apprise URL or several; each is a secret.
        timeout: seconds that one delivery may take, all its services together.
        name: the sink's name, unique in its FailSafe.

    Raises:
        ConfigurationError: the client is not installed, Apprise does not know a URL, or a URL would
            send in the clear over a network.
    """

    def __init__(
        self, urls: str | Sequence[str], *, timeout: float = TIMEOUT, name: str = "apprise"
    ) -> None:
        loaded("apprise", "AppriseSink", "apprise")
        self.name: str = require_text("a sink's name", name)
        self._timeout = require_seconds("timeout", timeout)
        self._wire = Wire(self.name, self._timeout)
        given = [urls] if isinstance(urls, str) else list(urls)
        if not given:
            raise ConfigurationError("urls must hold one Apprise URL at least")
        with quiet(*LOGGERS):
            self._services = [
                _service(url, place, self._timeout) for place, url in enumerate(given, 1)
            ]
        self._took: tuple[Alert | None, frozenset[int]] = (None, frozenset())

    def __repr__(self) -> str:
        return f"AppriseSink(name={self.name!r}, services={len(self._services)})"

    def send(self, alert: Alert) -> None:
        """Send `alert` once to each service that has not taken it yet.

        Raises:
            DeliveryError: a service did not take it, or not in time.
        """
        self._wire.deliver(lambda: self._notify(alert))

    def _notify(self, alert: Alert) -> Reply:
        last, took = self._took
        done = set(took) if last == alert else set()
        message = _message(readable(alert))
        for place, service in enumerate(self._services, 1):
            if place not in done and service.notify(**message):
                done.add(place)
                self._took = (alert, frozenset(done))
        missing = [str(place) for place in range(1, len(self._services) + 1) if place not in done]
        if missing:
            raise DeliveryError(f"service {', '.join(missing)} of its urls did not take the alert")
        self._took = (None, frozenset())
        return Reply(200)


def _service(url: object, place: int, timeout: float) -> Apprise:
    """Return the Apprise of one URL: it calls once, follows nothing, keeps nothing on disk."""
    import apprise

    asset = apprise.AppriseAsset(
        app_id="failstop",
        app_desc="failstop alerts",
        async_mode=False,
        http_redirects=False,
        interpret_emojis=False,
        allow_templates=False,
        service_timeout=0,
        storage_mode="memory",
    )
    service = apprise.Apprise.instantiate(url, asset=asset) if isinstance(url, str) else None
    if service is None:
        raise ConfigurationError(f"url {place} is none that Apprise knows; see its documentation")
    if not _is_private(service):
        raise ConfigurationError(
            f"url {place} would send in the clear, or to whom it cannot verify; use the secure "
            "form of its scheme, such as jsons:// or mailtos://, or for this machine set NO_PROXY"
        )
    # What the URL asks for is overruled: repeating is the dispatcher's, and a failure is a failure.
    service.redirects = False
    service.retry = 0
    service.optional = False
    service.socket_connect_timeout = service.socket_read_timeout = timeout
    single = apprise.Apprise(asset=asset)
    single.add(service)
    return single


def _is_private(service: Any) -> bool:
    """True where what is sent is encrypted to a verified receiver, or stays on this machine.

    Apprise asks the proxies of the environment for this machine's addresses too.
    """
    if is_loopback(service.host):
        return not getproxies() or bool(proxy_bypass(service.host))
    secure = service.secure_protocol or ()
    schemes = (secure,) if isinstance(secure, str) else tuple(secure)
    return (service.secure or service.schema in schemes) and service.verify_certificate


def _message(alert: Alert) -> dict[str, Any]:
    import apprise

    kinds = {
        Severity.INFO: apprise.NotifyType.INFO,
        Severity.WARNING: apprise.NotifyType.WARNING,
        Severity.ERROR: apprise.NotifyType.FAILURE,
        Severity.CRITICAL: apprise.NotifyType.FAILURE,
    }
    is_over = alert.action is AlertAction.RESOLVE
    return {
        "title": f"{alert.action.upper()}: {alert.title}",
        "body": "\n".join(
            [alert.message, "", *(f"{name}: {text}" for name, text in facts(alert).items())]
        ),
        "notify_type": apprise.NotifyType.SUCCESS if is_over else kinds[alert.severity],
        "body_format": apprise.NotifyFormat.TEXT,
    }
