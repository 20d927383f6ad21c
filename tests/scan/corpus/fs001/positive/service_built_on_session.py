import logging

from sqlalchemy.ext.asyncio import AsyncSession

from .watchlist import WatchlistService

logger = logging.getLogger(__name__)


async def prefetch_symbols(session: AsyncSession) -> list[str]:
    try:
        service = WatchlistService(session)
        return await service.get_watchlist(active_only=True)
    except Exception as e:  # expect: FS001
        logger.warning("watchlist not loaded: %s", e)
        return []
