import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from .models import Order


async def place(session: AsyncSession, venue, order):
    async with asyncio.timeout(2):
        quote = await venue.quote(order.symbol)
    session.add(Order(symbol=order.symbol, price=quote))
    await session.commit()
