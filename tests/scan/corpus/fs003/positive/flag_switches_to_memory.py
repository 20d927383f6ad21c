import asyncpg
import structlog

log = structlog.get_logger()


class Storage:
    def __init__(self, dsn):
        self.dsn = dsn
        self.use_memory = False
        self.memory = {}
        self.pool = None

    async def open(self):
        try:
            self.pool = await asyncpg.create_pool(self.dsn, timeout=3, command_timeout=3)
        except (OSError, asyncpg.PostgresError) as exc:  # expect: FS003
            log.warning("storage.memory", reason=str(exc))
            self.use_memory = True
