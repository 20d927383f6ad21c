import anyio

from .db import async_session
from .models import Trade


async def record(trade: dict) -> None:
    with anyio.move_on_after(2):  # expect: FS007
        async with async_session() as session:
            session.add(Trade(**trade))
            await session.commit()
