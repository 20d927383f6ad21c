import asyncpg
from fastapi import FastAPI

app = FastAPI()
pool: asyncpg.Pool | None = None


@app.get("/api/health")
async def api_health():
    try:
        async with pool.acquire() as conn:
            await conn.execute("SELECT 1")
    except Exception:  # expect: FS008
        pass
    return {"status": "ok"}
