import asyncio

from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy.ext.asyncio import AsyncSession

from .db import get_session
from .models import Transfer

router = APIRouter()


@router.post("/transfers")
async def transfer(body: dict, session: AsyncSession = Depends(get_session)):
    async def work():
        session.add(Transfer(**body))
        await session.commit()

    try:
        await asyncio.wait_for(work(), timeout=0.8)  # expect: FS007
    except asyncio.TimeoutError as exc:
        raise HTTPException(504, "timed out") from exc
    return {"state": "booked"}
