"""The gateway guard against a real HTTP server, with the clients that people use."""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import urllib3

from failstop import (
    ConfigurationError,
    FailSafe,
    FailureResponse,
    Gateway,
    GatewayUnavailableError,
    OperationsSuspendedError,
    Outcome,
    Recovery,
    State,
    with_fail_fast_protection,
)
from failstop.errors import DatabaseUnavailableError

TIMEOUT = 0.3


class Upstream(BaseHTTPRequestHandler):
    """Answers with the status in the path; /hang never answers, /cut breaks off in the body."""

    released = threading.Event()

    def do_GET(self) -> None:
        path = self.path.strip("/")
        if path == "hang":
            self.released.wait(30)
            return
        if path == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(200 if path == "cut" else int(path))
        self.send_header("Content-Length", "100" if path == "cut" else "2")
        self.end_headers()
        self.wfile.write(b"{}")
        if path == "cut":
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_request(self, *_: object) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    server = QuietServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Upstream.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a port that is bound, and that nobody listens at."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def failsafe() -> Iterator[FailSafe]:
    with FailSafe("bot-api", recovery=Recovery(probe_interval=60.0)) as made:
        yield made


@pytest.fixture
def gateway(failsafe: FailSafe) -> Gateway:
    return Gateway("broker", failsafe, probe=lambda: True)


def by_httpx(url: str) -> None:
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
        client.get(url).raise_for_status()


def by_async_httpx(url: str) -> None:
    async def get() -> None:
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:
            (await client.get(url)).raise_for_status()

    asyncio.run(get())


def by_requests(url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.get(url, timeout=TIMEOUT).raise_for_status()


def by_aiohttp(url: str) -> None:
    async def get() -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            answer = await session.get(url)
            await answer.read()

    asyncio.run(get())


def by_urllib3(url: str) -> None:
    with urllib3.PoolManager(retries=False, timeout=TIMEOUT) as pool:
        answer = pool.request("GET", url)
    if answer.status >= 400:
        raise urllib.request.HTTPError(url, answer.status, "", http.client.HTTPMessage(), None)


def by_urllib(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT) as answer:
            answer.read()
    except urllib.request.HTTPError as error:
        error.close()
        raise


CLIENTS: dict[str, Callable[[str], None]] = {
    "httpx": by_httpx,
    "httpx async": by_async_httpx,
    "requests": by_requests,
    "aiohttp": by_aiohttp,
    "urllib3": by_urllib3,
    "urllib": by_urllib,
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_good_answer_passes(client: str, gateway: Gateway, upstream: str) -> None:
    with gateway.guard() as made:
        CLIENTS[client](f"{upstream}/200")
    assert made.outcome is Outcome.COMMITTED


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refused_connection_trips_with_nothing_sent(
    client: str, gateway: Gateway, failsafe: FailSafe, nobody: str
) -> None:
    with (
        pytest.raises(GatewayUnavailableError, match="cannot be reached") as caught,
        gateway.guard(),
    ):
        CLIENTS[client](nobody)
    assert caught.value.outcome is Outcome.NOT_STARTED
    assert caught.value.__cause__ is not None
    assert failsafe.state is State.FAIL_SAFE
    assert caught.value.incident_id == getattr(failsafe.incident, "incident_id", None)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("path", ["hang", "drop", "cut"])
def test_silence_trips_and_leaves_the_outcome_unknown(
    path: str, client: str, gateway: Gateway, failsafe: FailSafe, upstream: str
) -> None:
    with pytest.raises(GatewayUnavailableError, match="gave no answer") as caught, gateway.guard():
        CLIENTS[client](f"{upstream}/{path}")
    assert caught.value.outcome is Outcome.UNKNOWN
    assert not caught.value.safe_to_retry
    assert failsafe.state is State.FAIL_SAFE


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [500, 503])
def test_a_server_error_trips_and_leaves_the_outcome_unknown(
    status: int, client: str, gateway: Gateway, failsafe: FailSafe, upstream: str
) -> None:
    with (
        pytest.raises(GatewayUnavailableError, match=f"answered {status}") as caught,
        gateway.guard(),
    ):
        CLIENTS[client](f"{upstream}/{status}")
    assert caught.value.outcome is Outcome.UNKNOWN
    assert failsafe.state is State.FAIL_SAFE


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [400, 404, 429])
def test_a_client_error_passes_untouched(
    status: int, client: str, gateway: Gateway, failsafe: FailSafe, upstream: str
) -> None:
    with pytest.raises(Exception) as caught, gateway.guard():  # noqa: PT011 - each client has its own
        CLIENTS[client](f"{upstream}/{status}")
    assert not isinstance(caught.value, GatewayUnavailableError)
    assert failsafe.is_normal


@pytest.mark.parametrize("client", ["httpx", "requests", "aiohttp"])
def test_a_wrong_url_is_the_callers_mistake(
    client: str, gateway: Gateway, failsafe: FailSafe
) -> None:
    with pytest.raises(Exception) as caught, gateway.guard():  # noqa: PT011 - each client has its own
        CLIENTS[client]("nonsense://127.0.0.1/")
    assert not isinstance(caught.value, GatewayUnavailableError)
    assert failsafe.is_normal


def test_a_read_that_fails_may_be_made_again(gateway: Gateway, upstream: str) -> None:
    with pytest.raises(GatewayUnavailableError) as caught, gateway.guard(reads_only=True):
        by_httpx(f"{upstream}/500")
    assert caught.value.outcome is Outcome.ROLLED_BACK


def test_the_guard_surrounds_an_await(gateway: Gateway, failsafe: FailSafe) -> None:
    async def handler() -> None:
        with gateway.guard():
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()

    with pytest.raises(GatewayUnavailableError):
        asyncio.run(handler())
    assert failsafe.state is State.FAIL_SAFE


async def test_a_cancelled_call_is_no_failure(gateway: Gateway, failsafe: FailSafe) -> None:
    begun = asyncio.Event()

    async def handler() -> None:
        with gateway.guard():
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(handler())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert failsafe.is_normal


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionRefusedError(), Outcome.NOT_STARTED),
        (socket.gaierror(-2, "name or service not known"), Outcome.NOT_STARTED),
        (ConnectionResetError(), Outcome.UNKNOWN),
        (BrokenPipeError(), Outcome.UNKNOWN),
        (TimeoutError(), Outcome.UNKNOWN),
        (OSError(101, "network is unreachable"), Outcome.UNKNOWN),
        (ExceptionGroup("g", [ConnectionRefusedError(), TimeoutError()]), Outcome.UNKNOWN),
        (ExceptionGroup("g", [ValueError(), ConnectionRefusedError()]), Outcome.NOT_STARTED),
    ],
    ids=repr,
)
def test_the_systems_own_errors_are_known(
    error: Exception, outcome: Outcome, gateway: Gateway
) -> None:
    with pytest.raises(GatewayUnavailableError) as caught, gateway.guard():
        raise error
    assert caught.value.outcome is outcome


@pytest.mark.parametrize("error", [ValueError(), KeyError("x"), ExceptionGroup("g", [KeyError()])])
def test_other_errors_pass_untouched(
    error: Exception, gateway: Gateway, failsafe: FailSafe
) -> None:
    with pytest.raises(type(error)) as caught, gateway.guard():
        raise error
    assert caught.value is error
    assert failsafe.is_normal


def test_an_error_that_wraps_the_clients_is_seen_through(gateway: Gateway, nobody: str) -> None:
    with pytest.raises(GatewayUnavailableError) as caught, gateway.guard():
        try:
            by_httpx(nobody)
        except httpx.HTTPError as error:
            raise LookupError("no quotes") from error
    assert caught.value.outcome is Outcome.NOT_STARTED


def test_an_error_raised_while_the_clients_is_handled_proves_nothing_unsent(
    gateway: Gateway, nobody: str
) -> None:
    with pytest.raises(GatewayUnavailableError) as caught, gateway.guard():
        try:
            by_httpx(nobody)
        except httpx.HTTPError:
            raise LookupError("no quotes")  # noqa: B904 - that it names no cause is the point
    assert caught.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("client", ["httpx", "requests", "urllib3", "urllib"])
def test_a_second_try_does_not_hide_what_the_first_may_have_sent(
    client: str, gateway: Gateway, upstream: str, nobody: str
) -> None:
    with pytest.raises(GatewayUnavailableError) as caught, gateway.guard():
        try:
            CLIENTS[client](f"{upstream}/drop")
        except Exception:
            CLIENTS[client](nobody)
    assert caught.value.outcome is Outcome.UNKNOWN


def test_what_was_handled_before_the_guard_has_nothing_to_do_with_it(
    gateway: Gateway, failsafe: FailSafe
) -> None:
    try:
        raise ConnectionResetError
    except ConnectionResetError:
        with pytest.raises(ValueError, match="bad order"), gateway.guard():
            raise ValueError("bad order")  # noqa: B904
    assert failsafe.is_normal


def test_no_guarded_call_is_made_unless_normal(gateway: Gateway, failsafe: FailSafe) -> None:
    made = []
    failsafe.halt(actor="ann", reason="drill")
    with pytest.raises(OperationsSuspendedError), gateway.guard():
        made.append("call")
    assert made == []


def test_a_critical_error_inside_passes_as_it_is(gateway: Gateway) -> None:
    error = DatabaseUnavailableError("gone")
    with pytest.raises(DatabaseUnavailableError) as caught, gateway.guard():
        raise error
    assert caught.value is error


def test_the_message_shows_no_address(gateway: Gateway, nobody: str) -> None:
    with pytest.raises(GatewayUnavailableError) as caught, gateway.guard():
        by_requests(f"{nobody}/orders?token=s3cret")
    assert str(caught.value) == "gateway 'broker' cannot be reached (ConnectionError)"


# check()


@pytest.mark.parametrize("client", [httpx.get, requests.get])
def test_check_returns_a_response_below_500(
    client: Callable[..., Any], gateway: Gateway, upstream: str
) -> None:
    answer = client(f"{upstream}/404", timeout=TIMEOUT)
    assert gateway.check(answer) is answer


def test_check_trips_for_a_server_error(
    gateway: Gateway, failsafe: FailSafe, upstream: str
) -> None:
    with gateway.guard():
        answer = httpx.get(f"{upstream}/502", timeout=TIMEOUT)
    with pytest.raises(GatewayUnavailableError, match="answered 502") as caught:
        gateway.check(answer)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert failsafe.state is State.FAIL_SAFE


async def test_check_knows_a_response_of_aiohttp(gateway: Gateway, upstream: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{upstream}/500") as answer:
        with pytest.raises(GatewayUnavailableError) as caught:
            gateway.check(answer, reads_only=True)
    assert caught.value.outcome is Outcome.ROLLED_BACK


def test_check_refuses_what_is_no_response(gateway: Gateway) -> None:
    with pytest.raises(TypeError, match="neither status_code nor status"):
        gateway.check({"status": 500})


# The response


def test_a_swallowed_gateway_failure_ends_in_the_failure_response(
    gateway: Gateway, failsafe: FailSafe, nobody: str
) -> None:
    @with_fail_fast_protection(failsafe=failsafe)
    def trades() -> list[str]:
        try:
            with gateway.guard():
                by_requests(nobody)
        except Exception:
            return []
        return ["never"]

    first, second = trades(), trades()
    assert isinstance(first, FailureResponse)
    assert isinstance(second, FailureResponse)
    assert first.body["code"] == second.body["code"] == "GATEWAY_UNAVAILABLE"
    assert first.body["details"]["safeToRetry"] is True


@pytest.mark.parametrize(("reads_only", "outcome"), [(False, "COMMITTED"), (True, "ROLLED_BACK")])
def test_a_call_that_took_effect_speaks_in_the_response(
    reads_only: bool, outcome: str, gateway: Gateway, upstream: str
) -> None:
    @with_fail_fast_protection
    def handler() -> None:
        with gateway.guard(reads_only=reads_only):
            by_httpx(f"{upstream}/200")
        raise DatabaseUnavailableError("gone", outcome=Outcome.NOT_STARTED)

    answer = handler()
    assert isinstance(answer, FailureResponse)
    assert answer.body["details"]["outcome"] == outcome


# The probe


def test_a_gateway_without_a_probe_is_refused(failsafe: FailSafe) -> None:
    with pytest.raises(ConfigurationError, match="give probe="):
        Gateway("broker", failsafe)


@pytest.mark.parametrize("name", ["", "  "])
def test_a_gateway_without_a_name_is_refused(name: str, failsafe: FailSafe) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        Gateway(name, failsafe, probe=lambda: True)


def test_a_gateway_without_a_failsafe_is_refused() -> None:
    wrong: Any = None
    with pytest.raises(ConfigurationError, match="FailSafe"):
        Gateway("broker", wrong, probe=lambda: True)


async def passes() -> bool:
    await asyncio.sleep(0)
    return True


@pytest.mark.parametrize("status", [200, 204])
def test_a_good_response_passes_the_probe(status: int, failsafe: FailSafe, upstream: str) -> None:
    url = f"{upstream}/{status}"
    gateway = Gateway("broker", failsafe, probe=lambda: httpx.get(url, timeout=TIMEOUT))
    assert gateway.probe() == f"answered its probe with {status}"


@pytest.mark.parametrize("probe", [lambda: True, passes])
def test_true_passes_the_probe(probe: Callable[[], object], failsafe: FailSafe) -> None:
    assert Gateway("broker", failsafe, probe=probe).probe() == "the probe passed"


@pytest.mark.parametrize("answer", [None, False, 1, "ok", {}])
def test_nothing_else_passes_the_probe(answer: object, failsafe: FailSafe) -> None:
    """A probe that forgets to look at the answer returns None, and proves nothing."""
    answers = iter([True])
    gateway = Gateway("broker", failsafe, probe=lambda: next(answers, answer))
    with pytest.raises(GatewayUnavailableError, match="True or an HTTP response would pass"):
        gateway.probe()


@pytest.mark.parametrize("status", [404, 503])
def test_a_bad_response_does_not_pass_the_probe(
    status: int, failsafe: FailSafe, upstream: str
) -> None:
    answers: Iterator[Any] = iter([True])
    url = f"{upstream}/{status}"
    gateway = Gateway(
        "broker", failsafe, probe=lambda: next(answers, None) or httpx.get(url, timeout=TIMEOUT)
    )
    with pytest.raises(GatewayUnavailableError, match=f"answered its probe with {status}"):
        gateway.probe()


def test_a_gateway_that_does_not_answer_at_the_start_is_fail_safe(nobody: str) -> None:
    failsafe = FailSafe("bot-api")
    Gateway("broker", failsafe, probe=lambda: httpx.get(nobody, timeout=TIMEOUT))
    with failsafe:
        assert failsafe.state in (State.FAIL_SAFE, State.RECOVERING)
        assert failsafe.incident is not None
        assert failsafe.incident.reason == "Gateway unavailable"


def test_a_gateway_that_works_again_is_proven_by_its_probe(nobody: str) -> None:
    is_up = threading.Event()
    is_up.set()

    def probe() -> bool:
        return is_up.is_set()

    failsafe = FailSafe("bot-api", recovery=Recovery(probe_interval=0.01, consecutive=2))
    gateway = Gateway("broker", failsafe, probe=probe)
    with failsafe:
        is_up.clear()
        wait_until(lambda: failsafe.state is State.FAIL_SAFE)
        with pytest.raises(OperationsSuspendedError), gateway.guard():
            pass
        is_up.set()
        wait_until(lambda: failsafe.is_normal)
        with gateway.guard():
            pass


def wait_until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < limit, "it never came to hold"
        time.sleep(0.005)


def test_the_guard_imports_no_client() -> None:
    code = (
        "import sys, failstop; names = {'httpx', 'requests', 'aiohttp', 'urllib3'}; "
        "sys.exit(str(names & set(sys.modules)) if names & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
