import os

from sqlalchemy.ext.asyncio import create_async_engine

# postgresql+asyncpg in production
DATABASE_URL = os.getenv("DATABASE_URL") or "sqlite+aiosqlite:///./dev.db"  # expect: FS003

engine = create_async_engine(DATABASE_URL, connect_args={"timeout": 5})
