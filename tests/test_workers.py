"""The ways in which a service has several processes on a host: each of them stops at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.waiting import wait_until

HERE = Path(__file__).parent
WORKERS = 3

Found = dict[int, dict[str, Any]]


def gunicorn(socket: int, *more: str) -> list[str]:
    options = ["--bind", f"fd://{socket}", "--workers", str(WORKERS), "--threads", "2", *more]
    return ["gunicorn", *options, "--log-level", "error", "tests.workers.wsgi:app"]


def uvicorn(socket: int) -> list[str]:
    options = ["--fd", str(socket), "--workers", str(WORKERS), "--log-level", "error"]
    return ["uvicorn", *options, "tests.workers.asgi:app"]


SERVERS: dict[str, Callable[[int], list[str]]] = {
    "gunicorn": gunicorn,
    "gunicorn --preload": lambda socket: gunicorn(socket, "--preload"),
    "uvicorn --workers": uvicorn,
}


@contextmanager
def served(command: Callable[[int], list[str]], store: Path) -> Iterator[str]:
    """Serve the API; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = subprocess.Popen(
            [sys.executable, "-m", *command(listener.fileno())],
            cwd=HERE.parent,
            env={**os.environ, "STORE": str(store)},
            pass_fds=[listener.fileno()],
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.terminate()
            server.wait(30)


def ask(url: str, path: str = "/whoami") -> httpx.Response:
    """Ask once, on a connection of its own, which any worker may take."""
    return httpx.get(url + path, timeout=20, trust_env=False)


def everybody(url: str, *, without: frozenset[int] = frozenset()) -> Found:
    """Return what each worker says, when all of them were heard."""
    found: Found = {}

    def heard() -> bool:
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda _: ask(url), range(16)):
                said = answer.json()
                found[said["pid"]] = said
        return len(found.keys() - without) >= WORKERS

    wait_until(heard, 60)
    return {pid: said for pid, said in found.items() if pid not in without}


@pytest.mark.parametrize("server", SERVERS)
def test_a_halt_in_one_worker_stops_every_worker(server: str, tmp_path: Path) -> None:
    with served(SERVERS[server], tmp_path / "failstop.db") as url:
        before = everybody(url)
        assert all(said["passes"] for said in before.values())
        assert sum(said["elected"] for said in before.values()) == (server != "gunicorn --preload")
        halted = httpx.post(f"{url}/halt", timeout=20, trust_env=False)
        assert halted.status_code == 200
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(url, "/order"), range(40)))
        assert {answer.status_code for answer in answers} == {503}
        assert not any(said["passes"] for said in everybody(url).values())


def test_a_worker_that_takes_the_place_of_a_killed_one_starts_tripped(tmp_path: Path) -> None:
    with served(SERVERS["gunicorn"], tmp_path / "failstop.db") as url:
        before = everybody(url)
        httpx.post(f"{url}/halt", timeout=20, trust_env=False)
        (holder,) = [pid for pid, said in before.items() if said["elected"]]
        os.kill(holder, signal.SIGKILL)
        after = everybody(url, without=frozenset([holder]))
        assert after.keys() - before.keys(), "another worker was started in its place"
        assert not any(said["passes"] for said in after.values())

        def is_held() -> bool:
            found = everybody(url, without=frozenset([holder]))
            return sum(bool(said["elected"]) for said in found.values()) == 1

        wait_until(is_held)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_stop_with_their_parent(method: str, tmp_path: Path) -> None:
    store = tmp_path / "failstop.db"
    command = [sys.executable, "-W", "ignore", "-m", "tests.workers.processes", method, str(store)]
    done = subprocess.run(
        command, cwd=HERE.parent, check=True, capture_output=True, text=True, timeout=100
    )
    found = json.loads(done.stdout)
    assert found["before"] == [True] * 3
    assert [said["passes"] for said in found["after"]] == [False] * 3
    assert len({said["pid"] for said in found["after"]}) == 3
    for said in found["after"]:
        assert {"failstop-monitor", "failstop-watchdog"} <= set(said["threads"])
