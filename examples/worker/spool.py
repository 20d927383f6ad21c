"""A message queue in a directory, as durable as its file system: a file a message.

A message moves by rename, which is atomic: `incoming` to `taken`, then to `done` or `rejected`.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Message:
    name: str
    body: bytes


class Spool:
    """One consumer's queue; what it had taken when it died is given back when it returns."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for place in ("incoming", "taken", "done", "rejected"):
            (directory / place).mkdir(parents=True, exist_ok=True)
        for left in (directory / "taken").iterdir():
            self._move(left.name, "taken", "incoming")

    def put(self, message: Message) -> None:
        """Add a message; it is seen whole or not at all."""
        draft = self._directory / f"{message.name}.draft"
        draft.write_bytes(message.body)
        draft.rename(self._directory / "incoming" / message.name)

    def take(self) -> Message | None:
        """Return the first message by name, None where there is none."""
        first = min((self._directory / "incoming").iterdir(), default=None)
        if first is None:
            return None
        self._move(first.name, "incoming", "taken")
        return Message(first.name, (self._directory / "taken" / first.name).read_bytes())

    def acknowledge(self, message: Message) -> None:
        self._move(message.name, "taken", "done")

    def give_back(self, message: Message) -> None:
        self._move(message.name, "taken", "incoming")

    def reject(self, message: Message) -> None:
        self._move(message.name, "taken", "rejected")

    def names(self, place: str) -> list[str]:
        """Return the names of the messages in a place."""
        return sorted(each.name for each in (self._directory / place).iterdir())

    def _move(self, name: str, source: str, target: str) -> None:
        (self._directory / source / name).rename(self._directory / target / name)
