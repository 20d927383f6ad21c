import asyncio

from .db import async_session
from .models import Order


async def _save(order):
    async with async_session.begin() as session:
        session.add(Order(**order))


async def save(order):
    await asyncio.wait_for(asyncio.shield(_save(order)), timeout=1)  # expect: FS007
