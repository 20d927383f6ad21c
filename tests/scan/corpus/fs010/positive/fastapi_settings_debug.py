from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from .config import settings
from .db import get_session
from .fixtures import fake_trades
from .models import Trade

router = APIRouter()


@router.get("/trades")
async def trades(session: AsyncSession = Depends(get_session)):
    if settings.debug:  # expect: FS010
        return fake_trades()
    return (await session.scalars(select(Trade))).all()
