"""What the trading system does with its database.

No `except` here catches a critical failure, no default stands in for a row that could not be
read: the guard raises, the boundary answers, and nothing is made up in between.
"""

from decimal import Decimal

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from failstop import Database, IdempotencyConflictError, ReceiptExpiredError
from trading.models import BotState, Order, Trade, UserSettings


class DuplicateOrderError(Exception):
    """Another order with this id was placed before; the first one stands."""


class TradeService:
    """Orders in, trades out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get_all(self, user: str | None = None) -> list[Trade]:
        """Return the trades of a user, or all, the oldest first."""
        wanted = select(Trade.__table__).order_by(Trade.placed_at, Trade.order_id)
        if user is not None:
            wanted = wanted.where(Trade.user == user)
        return [Trade(**row._asdict()) for row in self._database.query(wanted)]

    def place(self, order: Order) -> dict[str, str]:
        """Place an order and return its trade; when this returns, the trade is committed.

        The same order may be sent again, whatever became of it: it takes effect once, and the
        trade that is returned is the first one.

        Raises:
            DuplicateOrderError: another order has this id, or it is too old to return its trade.
            KeyInFlightError: the first call for this order is still under way.
        """

        def work(connection: Connection) -> dict[str, str]:
            return _insert(connection, order).to_dict()

        try:
            return self._database.run_once(order.key, work, fingerprint=order.fingerprint)
        except (IdempotencyConflictError, ReceiptExpiredError) as error:
            raise DuplicateOrderError(order.order_id) from error


def _insert(connection: Connection, order: Order) -> Trade:
    trade = insert(Trade).values(
        order_id=order.order_id,
        user=order.user,
        symbol=order.symbol,
        side=order.side.value,
        quantity=order.quantity,
        price=order.price,
    )
    return Trade(**connection.execute(trade.returning(Trade.__table__)).one()._asdict())


class BotStateService:
    """One row a user: what the user's bot does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get_or_create(self, user: str) -> BotState:
        """Return the bot of a user, made on the first call; two first calls make one."""
        with self._database.session() as session:
            session.execute(insert(BotState).values(user=user).on_conflict_do_nothing())
            return session.scalars(select(BotState).where(BotState.user == user)).one()


class UserSettingsService:
    """One row a user: how far the user's bot may go."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def update(self, user: str, *, max_position: Decimal, is_paper: bool) -> UserSettings:
        """Store the settings of a user and return what is stored."""
        given = {"max_position": max_position, "is_paper": is_paper}
        statement = insert(UserSettings).values(user=user, **given)
        statement = statement.on_conflict_do_update(index_elements=["user"], set_=given)
        with self._database.session() as session:
            return session.scalars(statement.returning(UserSettings)).one()
