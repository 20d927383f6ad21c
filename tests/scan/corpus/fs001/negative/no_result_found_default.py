from sqlalchemy import select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from .models import FeeTier


def maker_fee(session: Session, user_id: int) -> float:
    try:
        tier = session.execute(select(FeeTier).where(FeeTier.user_id == user_id)).scalar_one()
    except NoResultFound:
        return 0.001
    return tier.maker
