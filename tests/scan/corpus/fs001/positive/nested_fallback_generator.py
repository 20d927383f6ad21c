from sqlalchemy import select

from .models import PriceBar
from .session import session_scope
from .simulate import generate_synthetic_bars


def bars_for(symbol, start, end):
    try:
        with session_scope() as session:
            statement = select(PriceBar).where(PriceBar.symbol == symbol, PriceBar.ts.between(start, end))
            return [bar.to_tuple() for bar in session.scalars(statement)]
    except Exception as error:  # expect: FS001
        print("falling back to synthetic bars:", error)
        return generate_synthetic_bars(symbol, start, end)
