import anyio
from sqlalchemy.ext.asyncio import async_sessionmaker

from .models import Position


class Book:
    def __init__(self, sessions: async_sessionmaker) -> None:
        self._sessions = sessions

    async def _close(self, position_id: int) -> None:
        async with self._sessions.begin() as session:
            position = await session.get(Position, position_id)
            await session.delete(position)

    async def close(self, position_id: int) -> None:
        with anyio.fail_after(5):  # expect: FS007
            await self._close(position_id)
