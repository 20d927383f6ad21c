import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from .models import Order


async def store(session: AsyncSession, order: dict) -> None:
    session.add(Order(**order))
    await asyncio.wait_for(session.commit(), timeout=2)  # expect: FS007
