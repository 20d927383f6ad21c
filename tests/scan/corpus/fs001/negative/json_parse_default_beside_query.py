import json

from sqlalchemy import text

from .db import engine


def strategy_params(strategy_id):
    with engine.connect() as conn:
        raw = conn.execute(
            text("SELECT params FROM strategies WHERE id = :id"), {"id": strategy_id}
        ).scalar_one()
    try:
        return json.loads(raw)
    except json.JSONDecodeError:
        return {}
