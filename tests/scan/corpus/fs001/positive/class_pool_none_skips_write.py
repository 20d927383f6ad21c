import asyncpg
import structlog

log = structlog.get_logger()


class TradeJournal:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.pool = None

    async def start(self) -> None:
        try:
            self.pool = await asyncpg.create_pool(self.dsn, timeout=5, command_timeout=5)
        except Exception as exc:  # expect: FS001
            log.warning("journal.disabled", error=str(exc))
            self.pool = None

    async def record(self, trade) -> None:
        if self.pool is None:  # expect: FS001
            return
        async with self.pool.acquire() as conn:
            await conn.execute(
                "INSERT INTO journal (symbol, side, qty) VALUES ($1, $2, $3)",
                trade.symbol,
                trade.side,
                trade.qty,
            )
