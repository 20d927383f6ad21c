from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from .errors import StorageUnavailable
from .models import Wallet


class WalletRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, wallet_id: int) -> Wallet:
        try:
            wallet = await self._session.scalar(select(Wallet).where(Wallet.id == wallet_id))
        except SQLAlchemyError as exc:
            raise StorageUnavailable("wallets") from exc
        if wallet is None:
            raise LookupError(wallet_id)
        return wallet
