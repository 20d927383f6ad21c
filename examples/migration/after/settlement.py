"""The settlement of a day, on the asyncio side of the service."""

from typing import Any

from sqlalchemy.dialects.postgresql import insert

from failstop import AsyncDatabase
from migration.after.store import audit


async def settle(database: AsyncDatabase, day: str, fills: list[dict[str, Any]]) -> None:
    """Write the day's settlement within ten seconds; when this returns, it is committed.

    The deadline belongs to the transaction, and its error says what became of the work. An order
    is settled once a day by its unique key, so what ended unknown may be settled again.
    """
    events = [{"order_id": fill["order_id"], "event": f"settled {day}"} for fill in fills]
    settled = insert(audit).on_conflict_do_nothing(index_elements=["order_id", "event"])
    async with database.transaction(deadline=10.0) as connection:
        if events:
            await connection.execute(settled, events)
