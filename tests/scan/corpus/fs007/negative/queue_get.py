import asyncio

from .db import async_session
from .models import Event


async def drain(queue: asyncio.Queue) -> None:
    while True:
        try:
            item = await asyncio.wait_for(queue.get(), timeout=5)
        except asyncio.TimeoutError:
            continue
        async with async_session.begin() as session:
            session.add(Event(**item))
