import asyncio

from .db import async_session
from .models import Leg


async def store_leg(leg):
    async with async_session.begin() as session:
        session.add(Leg(**leg))


async def store_spread(near, far):
    await asyncio.wait_for(asyncio.gather(store_leg(near), store_leg(far)), timeout=2)  # expect: FS007
