import json

import aio_pika
from sqlalchemy.ext.asyncio import AsyncSession

from .models import Trade


async def record(session: AsyncSession, exchange: aio_pika.Exchange, trade: dict):
    async with session.begin():
        session.add(Trade(**trade))
        message = aio_pika.Message(json.dumps(trade).encode())
        await exchange.publish(message, routing_key="trades")  # expect: FS006
