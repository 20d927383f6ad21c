import asyncpg
from fastapi import FastAPI

app = FastAPI()


@app.on_event("startup")
async def startup():
    app.state.pool = await asyncpg.create_pool(dsn=app.extra["dsn"], min_size=1, max_size=10)  # expect: FS009
