from fastapi import APIRouter, HTTPException
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from .db import engine

router = APIRouter()


@router.get("/ledger/{account}")
def ledger(account: int):
    try:
        with engine.connect() as conn:
            rows = conn.execute(text("SELECT * FROM ledger WHERE account = :a"), {"a": account})
            return [dict(r) for r in rows.mappings()]
    except OperationalError as exc:
        raise HTTPException(status_code=503, detail="ledger unavailable") from exc
