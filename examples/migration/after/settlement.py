"""The settlement of a day, on the asyncio side of the service."""

from typing import Any

from failstop import AsyncDatabase
from migration.after.store import audit


async def settle(database: AsyncDatabase, day: str, fills: list[dict[str, Any]]) -> None:
    """Write the day's settlement within ten seconds; when this returns, it is committed.

    The deadline belongs to the transaction: a commit that is not answered is asked about.
    """
    events = [{"order_id": fill["order_id"], "event": f"settled {day}"} for fill in fills]
    async with database.transaction(key=f"settle-{day}", deadline=10.0) as connection:
        await connection.execute(audit.insert(), events)
