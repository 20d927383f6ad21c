from contextlib import asynccontextmanager

import asyncpg
import structlog
from fastapi import FastAPI

log = structlog.get_logger()


@asynccontextmanager
async def lifespan(app: FastAPI):
    try:
        app.state.pool = await asyncpg.create_pool(app.extra["dsn"], timeout=5, command_timeout=5)
        await app.state.pool.execute("CREATE TABLE IF NOT EXISTS fills (id text PRIMARY KEY)")
    except Exception as exc:  # expect: FS011
        log.warning("starting without database", error=str(exc))
    yield
