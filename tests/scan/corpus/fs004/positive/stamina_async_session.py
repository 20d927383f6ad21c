import stamina
from sqlalchemy.exc import DBAPIError

from .db import async_session
from .models import LedgerEntry


@stamina.retry(on=DBAPIError, attempts=3)  # expect: FS004
async def post_entry(account: int, amount: int) -> None:
    async with async_session() as session:
        session.add(LedgerEntry(account=account, amount=amount))
        await session.commit()
