from fastapi import APIRouter, Depends
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import get_session

router = APIRouter()


@router.get("/healthz")
async def healthz(session: AsyncSession = Depends(get_session)):
    database_ok = True
    try:
        await session.execute(text("SELECT 1"))
    except Exception:  # expect: FS008
        database_ok = False
    return {"status": "ok" if database_ok else "degraded", "database": database_ok}
