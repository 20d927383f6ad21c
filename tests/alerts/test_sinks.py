"""The sinks against real HTTP servers that check the vendors' schemas, and that misbehave."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from failstop.alerts import (
    Alert,
    AlertAction,
    AlertmanagerSink,
    AlertSink,
    AppriseSink,
    DeliveryError,
    PagerDutySink,
    Severity,
    SlackSink,
    WebhookSink,
)
from failstop.errors import ConfigurationError
from failstop.testing import HttpAnswer, HttpFault, HttpReceiver, sample_alert

# Apprise loads this module of the standard library, which Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

MakeSink = Callable[..., AlertSink]
ROUTING_KEY = "Q" * 32


def failure(sink: AlertSink, alert: Alert | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        sink.send(alert or sample_alert())
    return caught.value


def events(receiver: HttpReceiver) -> list[Any]:
    return [json.loads(request.body) for request in receiver.requests]


class TestEverySink:
    @pytest.mark.parametrize("action", AlertAction)
    @pytest.mark.parametrize("severity", Severity)
    def test_is_taken_by_the_documented_schema(
        self, make_sink: MakeSink, action: AlertAction, severity: Severity
    ) -> None:
        make_sink().send(sample_alert(action, severity=severity))

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
    def test_says_what_was_answered_and_asks_once(
        self, make_sink: MakeSink, receiver: HttpReceiver, status: int
    ) -> None:
        receiver.respond = lambda _: HttpAnswer(status)
        error = failure(make_sink())
        assert "apprise" in str(error) or f"answered {status}" in str(error)
        assert len(receiver.requests) == 1

    @pytest.mark.parametrize("fault", HttpFault)
    def test_ends_in_its_timeout_whatever_the_receiver_does(
        self, make_sink: MakeSink, receiver: HttpReceiver, fault: HttpFault
    ) -> None:
        receiver.respond = lambda _: fault
        begins = time.monotonic()
        assert not failure(make_sink(timeout=0.5)).is_permanent
        assert time.monotonic() - begins < 20
        assert len(receiver.requests) == 1

    def test_a_connection_that_drops_is_not_made_again(
        self, make_sink: MakeSink, receiver: HttpReceiver
    ) -> None:
        receiver.respond = lambda _: HttpFault.DROP
        assert "no answer within" not in str(failure(make_sink()))
        assert len(receiver.requests) == 1

    def test_https_never_becomes_http(self, make_sink: MakeSink, receiver: HttpReceiver) -> None:
        plain = receiver.url
        for scheme in ("https:", "HTTPS:"):
            receiver.url = plain.replace("http:", scheme)
            assert "answered" not in str(failure(make_sink(timeout=5)))
        assert receiver.requests == []

    def test_follows_no_redirect(self, make_sink: MakeSink, receiver: HttpReceiver) -> None:
        for status in (301, 302, 303, 307, 308):
            elsewhere = {"Location": f"{receiver.url}/elsewhere"}
            receiver.respond = lambda _, status=status, to=elsewhere: HttpAnswer(  # type: ignore[misc]
                status, headers=to
            )
            failure(make_sink())
        assert "/elsewhere" not in [request.path for request in receiver.requests]

    def test_sends_a_loopback_request_through_no_proxy(
        self, make_sink: MakeSink, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with HttpReceiver() as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            try:
                make_sink().send(sample_alert())
            except ConfigurationError:  # Apprise cannot pass it by, so its sink refuses
                assert len(receiver.requests) == 0
            else:
                assert len(receiver.requests) == 1
            assert proxy.requests == []

    def test_an_unreachable_receiver_is_a_failure(
        self, make_sink: MakeSink, receiver: HttpReceiver
    ) -> None:
        sink = make_sink()
        receiver.close()
        assert not failure(sink).is_permanent

    def test_stops_asking_while_too_many_calls_hang_and_goes_on_after(
        self, make_sink: MakeSink, receiver: HttpReceiver
    ) -> None:
        receiver.respond = lambda _: HttpFault.DRIP
        sink = make_sink(timeout=0.2)
        said = [str(failure(sink)) for _ in range(6)]
        assert "still hang" in said[-1]
        assert len(receiver.requests) == 4
        receiver.close()
        ends = time.monotonic() + 20
        while "still hang" in str(failure(sink)):
            assert time.monotonic() < ends
            time.sleep(0.01)

    def test_names_no_secret_in_repr_error_or_log(
        self,
        make_sink: MakeSink,
        receiver: HttpReceiver,
        secrets: tuple[str, ...],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(1)
        shown = []
        answers = [HttpAnswer(status, b"no") for status in (200, 302, 400, 401, 429, 500)]
        for answer in (*answers, HttpFault.GARBAGE, HttpFault.DROP, HttpFault.SILENCE):
            receiver.respond = lambda _, answer=answer: answer  # type: ignore[misc]
            sink = make_sink(timeout=0.5)
            shown.append(repr(sink) + str(sink))
            try:
                sink.send(sample_alert())
            except DeliveryError as error:
                shown += [repr(error), repr(error.__cause__), repr(error.__context__)]
        formatter = logging.Formatter("%(name)s %(message)s")
        shown += [formatter.format(record) for record in caplog.records]
        assert [text for text in shown if any(secret in text for secret in secrets)] == []

    def test_its_clients_log_is_open_to_everyone_else(
        self, make_sink: MakeSink, receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        httpx = pytest.importorskip("httpx")
        make_sink().send(sample_alert())
        caplog.set_level(logging.INFO, logger="httpx")
        httpx.get(f"{receiver.url}/of-somebody-else", trust_env=False)
        assert "/of-somebody-else" in caplog.text

    @pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "5", True])
    def test_refuses_a_timeout_that_bounds_nothing(
        self, make_sink: MakeSink, timeout: object
    ) -> None:
        with pytest.raises(ConfigurationError, match="timeout must be"):
            make_sink(timeout=timeout)


@pytest.mark.parametrize("name", ["pagerduty", "slack", "webhook", "alertmanager"])
class TestRetryAfter:
    @pytest.fixture
    def sink(self, name: str, all_sinks: Callable[[], list[AlertSink]]) -> AlertSink:
        return next(sink for sink in all_sinks() if sink.name == name)

    @pytest.mark.parametrize("status", [429, 503])
    def test_in_seconds_is_handed_on(
        self, sink: AlertSink, receiver: HttpReceiver, status: int
    ) -> None:
        receiver.respond = lambda _: HttpAnswer(status, headers={"Retry-After": "17"})
        error = failure(sink)
        assert error.retry_after == 17.0
        assert not error.is_permanent

    def test_as_a_date_is_handed_on(self, sink: AlertSink, receiver: HttpReceiver) -> None:
        moment = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
        receiver.respond = lambda _: HttpAnswer(429, headers={"Retry-After": moment})
        waits = failure(sink).retry_after
        assert waits is not None
        assert 300 < waits <= 600

    @pytest.mark.parametrize(
        ("header", "waits"),
        [
            ("99999999", 3600.0),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
            ("soon", None),
            ("-5", None),
            ("1e9", None),
            ("", None),
        ],
    )
    def test_is_believed_within_reason(
        self, sink: AlertSink, receiver: HttpReceiver, header: str, waits: float | None
    ) -> None:
        receiver.respond = lambda _: HttpAnswer(429, headers={"Retry-After": header})
        assert failure(sink).retry_after == waits

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
    def test_a_refusal_for_ever_is_permanent(
        self, sink: AlertSink, receiver: HttpReceiver, status: int
    ) -> None:
        receiver.respond = lambda _: HttpAnswer(status)
        assert failure(sink).is_permanent


@pytest.mark.parametrize(
    ("make", "extra", "module"),
    [
        (lambda: PagerDutySink(ROUTING_KEY), "pagerduty", "pagerduty"),
        (lambda: SlackSink("https://hooks.slack.com/services/x"), "slack", "slack_sdk.webhook"),
        (lambda: WebhookSink("https://h", secret="s" * 24), "webhook", "httpx"),
        (lambda: AlertmanagerSink("https://h"), "alertmanager", "httpx"),
        (lambda: AppriseSink("jsons://h"), "apprise", "apprise"),
    ],
)
def test_a_missing_client_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], AlertSink], extra: str, module: str
) -> None:
    make()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=rf"pip install 'failstop\[{extra}\]'"):
        make()


def test_importing_the_sinks_loads_no_client() -> None:
    code = (
        "import sys, failstop.alerts\n"
        "clients = {'httpx', 'httpx2', 'pagerduty', 'slack_sdk', 'apprise', 'requests'}\n"
        "print(*clients & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "\n")


URL_TAKERS: dict[str, Callable[[str], AlertSink]] = {
    "pagerduty": lambda url: PagerDutySink(ROUTING_KEY, url=url),
    "slack": SlackSink,
    "webhook": lambda url: WebhookSink(url, secret="s" * 24),
    "alertmanager": AlertmanagerSink,
}


@pytest.mark.parametrize("taker", URL_TAKERS.values(), ids=URL_TAKERS)
class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com/s3cr3t",
            "http://127.0.0.1.example.com/s3cr3t",
            "http://127.0.0.1@example.com/s3cr3t",
            "http://localhost.example.com/s3cr3t",
            "http://2130706433/s3cr3t",
            "http://10.0.0.1/s3cr3t",
            "http://[::2]/s3cr3t",
            "http://example.com\\@127.0.0.1/s3cr3t",
            "https://exam ple.com/s3cr3t",
            "https://example.com/s3cr3t\n",
            "https:///s3cr3t",
            "https://[::1/s3cr3t",
            "https://example.com:99999/s3cr3t",
            "ftp://example.com/s3cr3t",
            "//example.com/s3cr3t",
            "example.com/s3cr3t",
            "",
            None,
            7,
        ],
    )
    def test_refuses_what_is_not_private_and_shows_none_of_it(
        self, taker: Callable[[Any], AlertSink], url: Any
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            taker(url)
        assert "s3cr3t" not in str(caught.value)
        assert "example" not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com",
            "HTTPS://example.com:8443/path",
            "http://localhost:9093",
            "http://127.0.0.1:9093/prefix",
            "http://127.9.9.9",
            "http://[::1]:9093",
        ],
    )
    def test_takes_https_and_this_machine(
        self, taker: Callable[[str], AlertSink], url: str
    ) -> None:
        taker(url)

    def test_refuses_a_name_that_is_empty(self, taker: Callable[[str], AlertSink]) -> None:
        make: Callable[..., AlertSink] = type(taker("https://example.com"))
        given: dict[object, dict[str, Any]] = {
            PagerDutySink: {"routing_key": ROUTING_KEY},
            SlackSink: {"webhook_url": "https://example.com"},
            WebhookSink: {"url": "https://example.com", "secret": "s" * 24},
            AlertmanagerSink: {"url": "https://example.com"},
        }
        with pytest.raises(ConfigurationError, match="name must"):
            make(**given[make], name=" ")


class TestPagerDuty:
    @pytest.mark.parametrize("key", ["", "x" * 31, "x" * 33, "x" * 31 + "-", "x" * 32 + "\n", None])
    def test_refuses_a_key_of_another_form_and_shows_none_of_it(self, key: Any) -> None:
        with pytest.raises(ConfigurationError, match="routing_key must be") as caught:
            PagerDutySink(key)
        assert not key or key not in str(caught.value)

    @pytest.mark.parametrize("url", ["https://u:p@h", "https://h/?a=b", "https://h/#x"])
    def test_refuses_a_url_that_is_no_base(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="url must"):
            PagerDutySink(ROUTING_KEY, url=url)

    def test_takes_the_whole_address_too(self, receiver: HttpReceiver) -> None:
        PagerDutySink(ROUTING_KEY, url=f"{receiver.url}/v2/enqueue").send(sample_alert())
        assert receiver.requests[0].path == "/v2/enqueue"

    def test_follows_an_incident_from_trigger_to_resolve(self, receiver: HttpReceiver) -> None:
        sink = PagerDutySink(ROUTING_KEY, url=receiver.url)
        for action in AlertAction:
            sink.send(sample_alert(action))
        came = events(receiver)
        actions = [event["event_action"] for event in came]
        assert actions == ["trigger", "trigger", "acknowledge", "resolve"]
        assert len({event["dedup_key"] for event in came}) == 1

    def test_keeps_long_dedup_keys_apart_and_the_same(self, receiver: HttpReceiver) -> None:
        sink = PagerDutySink(ROUTING_KEY, url=receiver.url)
        for end in ("a", "b", "a"):
            sink.send(sample_alert(AlertAction.RESOLVE, dedup_key="x" * 300 + end))
        one, other, again = (event["dedup_key"] for event in events(receiver))
        assert one == again != other
        assert len(one) == 255

    def test_drops_the_details_of_an_event_too_large_and_says_so(
        self, receiver: HttpReceiver
    ) -> None:
        details = {f"detail-{number}": "ü" * 10_000 for number in range(20)}
        PagerDutySink(ROUTING_KEY, url=receiver.url).send(sample_alert(details=details))
        (event,) = events(receiver)
        kept = event["payload"]["custom_details"]
        assert "larger than 512 KB" in kept["details_dropped"]
        assert kept["incident_id"] == sample_alert().incident_id
        assert "detail-0" not in kept

    def test_cuts_a_long_summary_with_a_mark(self, receiver: HttpReceiver) -> None:
        PagerDutySink(ROUTING_KEY, url=receiver.url).send(sample_alert(message="🔥" * 5000))
        summary = events(receiver)[0]["payload"]["summary"]
        assert len(summary.encode("utf-16-le")) <= 2 * 1024
        assert summary.endswith("🔥…")

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"status": "success"}', b"\xff\xfe"])
    def test_an_answer_of_another_form_is_no_delivery(
        self, receiver: HttpReceiver, body: bytes
    ) -> None:
        receiver.respond = lambda _: HttpAnswer(202, body)
        assert "not what it documents" in str(failure(PagerDutySink(ROUTING_KEY, url=receiver.url)))


class TestSlack:
    def test_an_answer_that_is_not_ok_is_no_delivery(self, receiver: HttpReceiver) -> None:
        receiver.respond = lambda _: HttpAnswer(200, b"<html>please log in</html>")
        assert "not what it documents" in str(failure(SlackSink(f"{receiver.url}/x")))

    def test_sends_one_message_a_second(self, receiver: HttpReceiver) -> None:
        receiver.respond = lambda _: HttpAnswer(200, b"ok")
        sink = SlackSink(f"{receiver.url}/x")
        begins = datetime.now(UTC)
        for _ in range(2):
            sink.send(sample_alert())
        assert datetime.now(UTC) - begins >= timedelta(seconds=0.99)

    def test_hands_a_wait_back_that_is_longer_than_its_timeout(
        self, receiver: HttpReceiver
    ) -> None:
        receiver.respond = lambda _: HttpAnswer(200, b"ok")
        sink = SlackSink(f"{receiver.url}/x", timeout=0.5)
        sink.send(sample_alert())
        error = failure(sink)
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 1.0

    def test_shows_no_mention_and_no_link(self, receiver: HttpReceiver) -> None:
        receiver.respond = lambda _: HttpAnswer(200, b"ok")
        SlackSink(f"{receiver.url}/x").send(sample_alert(message="<!channel> & <x|y>"))
        (message,) = events(receiver)
        assert "&lt;!channel&gt; &amp; &lt;x|y&gt;" in message["text"]
        assert {block["text"]["type"] for block in message["blocks"] if "text" in block} == {
            "plain_text"
        }

    def test_counts_the_details_that_find_no_place(self, receiver: HttpReceiver) -> None:
        receiver.respond = lambda _: HttpAnswer(200, b"ok")
        details = {f"detail {number}": "x" for number in range(20)}
        SlackSink(f"{receiver.url}/x").send(sample_alert(details=details))
        fields = events(receiver)[0]["blocks"][-1]["fields"]
        assert len(fields) == 10
        assert fields[-1]["text"] == "(+18 details left out)"


class TestAlertmanager:
    def test_holds_the_alert_open_until_it_is_resolved(self, receiver: HttpReceiver) -> None:
        sink = AlertmanagerSink(receiver.url)
        for action in AlertAction:
            sink.send(sample_alert(action, host=f"host-of-{action}", kind=f"kind-of-{action}"))
        came = [alert for (alert,) in events(receiver)]
        begun = sample_alert().occurred_at
        assert len({json.dumps(alert["labels"], sort_keys=True) for alert in came}) == 1
        ends = [datetime.fromisoformat(alert["endsAt"]) for alert in came]
        assert all(end - begun >= timedelta(days=30) for end in ends[:-1])
        assert ends[-1] == begun

    @pytest.mark.parametrize("prefix", ["", "/", "/am", "/api/v2/alerts"])
    def test_finds_the_api_below_its_address(self, receiver: HttpReceiver, prefix: str) -> None:
        receiver.respond = lambda _: HttpAnswer()
        AlertmanagerSink(receiver.url + prefix).send(sample_alert())
        assert receiver.requests[0].path in ("/api/v2/alerts", "/am/api/v2/alerts")

    @pytest.mark.parametrize("labels", [{"a-b": "x"}, {"a": 1}, {"": "x"}, {"service": "x"}])
    def test_refuses_labels_that_alertmanager_or_the_sink_would_not_take(
        self, labels: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError, match="labels"):
            AlertmanagerSink("https://h", labels=labels)


class TestApprise:
    @pytest.mark.parametrize(
        "url",
        [
            "json://example.com/s3cr3t",
            "jsons://example.com/s3cr3t?verify=no",
            "mailto://user:s3cr3t@example.com",
            "rsyslog://example.com",
            "nonsense://s3cr3t",
            "s3cr3t",
            "",
            None,
        ],
    )
    def test_refuses_what_is_unknown_or_not_private_and_shows_none_of_it(
        self, url: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(1)
        with pytest.raises(ConfigurationError) as caught:
            AppriseSink([url])
        assert "s3cr3t" not in str(caught.value) + caplog.text

    @pytest.mark.parametrize(
        "url",
        [
            "jsons://example.com",
            "mailtos://user:word@example.com",
            "mailto://user:word@gmail.com",
            "tgram://123456789:abcdefg_hijklmnop/12315544/",
            "json://localhost:8080/x",
        ],
    )
    def test_takes_what_is_private(self, url: str) -> None:
        AppriseSink(url)

    def test_refuses_no_urls(self) -> None:
        with pytest.raises(ConfigurationError, match="one Apprise URL at least"):
            AppriseSink([])

    def test_goes_on_where_one_service_fails_and_later_asks_only_that(
        self, receiver: HttpReceiver
    ) -> None:
        base = receiver.url.replace("http:", "json:")
        sink = AppriseSink([f"{base}/down", f"{base}/up"])
        is_down = True
        receiver.respond = lambda request: HttpAnswer(
            500 if is_down and request.path == "/down" else 200
        )
        assert "service 1 of its urls" in str(failure(sink))
        is_down = False
        sink.send(sample_alert())
        sink.send(sample_alert(AlertAction.RESOLVE))
        paths = [request.path for request in receiver.requests]
        assert paths == ["/down", "/up", "/down", "/down", "/up"]

    def test_repeats_nothing_by_itself_even_where_the_url_asks_for_it(
        self, receiver: HttpReceiver
    ) -> None:
        receiver.respond = lambda _: HttpAnswer(500)
        failure(AppriseSink(receiver.url.replace("http:", "json:") + "/x?retry=3&wait=0.1"))
        assert len(receiver.requests) == 1

    def test_a_service_called_optional_fails_like_any_other(self, receiver: HttpReceiver) -> None:
        receiver.respond = lambda _: HttpAnswer(500)
        failure(AppriseSink(receiver.url.replace("http:", "json:") + "/x?optional=yes"))


@pytest.fixture(autouse=True)
def _settled() -> Iterator[None]:
    """Leave no level of a vendor's logger behind."""
    levels = {name: logging.getLogger(name).level for name in ("httpx", "apprise")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
