from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from .config import settings

# postgresql+asyncpg://…
engine = create_async_engine(settings.database_url, echo=False, pool_size=5)  # expect: FS009
async_session = async_sessionmaker(engine, expire_on_commit=False)
