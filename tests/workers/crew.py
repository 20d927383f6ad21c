"""Worker processes that a test commands: started, asked, frozen and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")


class Hand:
    """One worker process; a command is a method of `worker.Worker`."""

    def __init__(self, store: Path, settings: dict[str, Any], url: str | None, user: int | None):
        command = [sys.executable, str(WORKER), str(store), json.dumps(settings), url or ""]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=user
        )

    def ask(self, command: str) -> Any:
        """Give a command and return its answer."""
        self.tell(command)
        return self.answer()

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        print(command, file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the worker ended"
        return json.loads(line)

    @property
    def state(self) -> str:
        return str(self.ask("state")["state"])

    @property
    def is_elected(self) -> bool:
        return bool(self.ask("elected"))

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def close(self) -> None:
        """End it in good order, or else at once."""
        if self.process.poll() is None:
            self.thaw()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.kill()
        finally:
            self.process.stdout.close()


class Crew:
    """Makes workers that share a store, and ends them."""

    def __init__(self, store: Path, stack: ExitStack) -> None:
        self.store = store
        self._stack = stack

    def hire(
        self, count: int, url: str | None = None, *, user: int | None = None, **settings: Any
    ) -> list[Hand]:
        """Return `count` workers that run, at a check round every tenth of a second."""
        settings = {"probe_interval": 0.1, "consecutive": 2, **settings}
        hands = [Hand(self.store, settings, url, user) for _ in range(count)]
        for hand in hands:
            self._stack.callback(hand.close)
            hand.tell("start")
        for hand in hands:
            hand.answer()
        return hands


@contextmanager
def crew(store: Path) -> Iterator[Crew]:
    with ExitStack() as stack:
        yield Crew(store, stack)
