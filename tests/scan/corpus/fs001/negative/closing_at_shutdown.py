import logging

from sqlalchemy.ext.asyncio import create_async_engine

log = logging.getLogger(__name__)
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"command_timeout": 5})


async def shutdown():
    try:
        await engine.dispose()
    except Exception:
        log.warning("engine did not close cleanly")
