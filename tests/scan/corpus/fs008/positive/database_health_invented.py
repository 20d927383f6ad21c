from fastapi import APIRouter

from trading.storage import engine

router = APIRouter(prefix="/api/database")


@router.get("/health")
def database_health():
    try:
        with engine.connect() as connection:
            latency = connection.exec_driver_sql("SELECT 1").scalar()
        return {"status": "connected", "latency_ms": latency}
    except Exception:  # expect: FS008
        return {"status": "connected", "latency_ms": 5, "mode": "mock"}
