import asyncpg
from fastapi import APIRouter, HTTPException, Request

router = APIRouter()


@router.get("/health/db")
async def db_health(request: Request):
    try:
        await request.app.state.pool.fetchval("SELECT 1")
    except (OSError, asyncpg.PostgresError) as exc:
        raise HTTPException(status_code=503, detail="database") from exc
    return {"database": "up"}
