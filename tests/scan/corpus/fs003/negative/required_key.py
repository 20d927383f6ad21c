import os

from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    os.environ["DATABASE_URL"], pool_pre_ping=True, connect_args={"timeout": 3, "command_timeout": 3}
)
