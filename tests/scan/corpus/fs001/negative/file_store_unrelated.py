import json
from pathlib import Path

from .db import session_scope
from .models import Setting


def local_overrides(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except OSError:
        return {}


def settings() -> dict:
    with session_scope() as session:
        stored = {s.key: s.value for s in session.query(Setting)}
    return stored | local_overrides(Path("overrides.json"))
