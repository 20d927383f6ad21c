from sqlalchemy.exc import DBAPIError

from .db import async_session
from .models import Fill, Tag


async def store(fill: dict, tags: list[str]) -> None:
    async with async_session() as session:
        session.add(Fill(**fill))
        try:
            session.add_all([Tag(fill_id=fill["id"], name=name) for name in tags])
            await session.flush()
        except DBAPIError as e:  # expect: FS005
            print(f"tags of {fill['id']} dropped: {e}")
        await session.commit()
