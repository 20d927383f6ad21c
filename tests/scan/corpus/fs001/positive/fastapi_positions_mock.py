from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import get_session
from app.models import Position

router = APIRouter(prefix="/positions")

MOCK_POSITIONS = [
    {"symbol": "BTCUSDT", "size": 0.4, "entry": 61200.0},
    {"symbol": "ETHUSDT", "size": 2.0, "entry": 3050.0},
]


@router.get("/")
async def list_positions(account_id: int, session: AsyncSession = Depends(get_session)):
    try:
        result = await session.execute(select(Position).where(Position.account_id == account_id))
        return [p.as_dict() for p in result.scalars()]
    except Exception as e:  # expect: FS001
        print(f"DB error, serving sample data: {e}")
        return MOCK_POSITIONS
