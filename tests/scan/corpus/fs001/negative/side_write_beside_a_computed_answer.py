import statistics

from fastapi import APIRouter

from .feed import closes

router = APIRouter()


@router.get("/volatility/{symbol}")
def volatility(symbol: str):
    values = closes(symbol)
    try:
        deviation = statistics.stdev(values)
    except statistics.StatisticsError:
        deviation = 0.0
    return {"symbol": symbol, "volatility": deviation, "n": len(values)}
