import asyncio

from .models import Withdrawal


async def save(session, user, amount):
    session.add(Withdrawal(user=user, amount=amount))
    await session.commit()


async def withdraw(session, user, amount):
    task = asyncio.create_task(save(session, user, amount))
    await asyncio.wait_for(task, timeout=1.0)  # expect: FS007
