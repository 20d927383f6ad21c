"""What is traded, and what is kept: plain SQLAlchemy, nothing of failstop in it."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import DateTime, Numeric, String, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller wants; `order_id` is the caller's own and names the order for ever."""

    order_id: str
    user: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal

    def __post_init__(self) -> None:
        if not (self.order_id and self.user and self.symbol):
            raise ValueError("order_id, user and symbol must not be empty")
        if not self.order_id.isprintable():
            raise ValueError("order_id must be printable")
        for amount in (self.quantity, self.price):
            if not (amount.is_finite() and amount > 0):
                raise ValueError("quantity and price must be above zero")

    @property
    def key(self) -> str:
        """What the placing of this order is known by, for ever."""
        return f"order-{self.order_id}"

    @property
    def fingerprint(self) -> str:
        """A text that two orders share if and only if they want the same."""
        amounts = (f"{amount.normalize():f}" for amount in (self.quantity, self.price))
        words = json.dumps([self.user, self.symbol, self.side, *amounts])
        return hashlib.sha256(words.encode()).hexdigest()


class Model(DeclarativeBase):
    """The tables of the trading database."""


class Trade(Model):
    __tablename__ = "trades"

    order_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user: Mapped[str] = mapped_column(String(64), index=True)
    symbol: Mapped[str] = mapped_column(String(16))
    side: Mapped[str] = mapped_column(String(4))
    quantity: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    price: Mapped[Decimal] = mapped_column(Numeric(20, 8))
    placed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    def to_dict(self) -> dict[str, str]:
        """Return the trade as JSON's types; amounts stay decimal texts."""
        return {
            "orderId": self.order_id,
            "user": self.user,
            "symbol": self.symbol,
            "side": self.side,
            "quantity": f"{self.quantity.normalize():f}",
            "price": f"{self.price.normalize():f}",
            "placedAt": self.placed_at.isoformat(),
        }


class BotState(Model):
    __tablename__ = "bot_states"

    user: Mapped[str] = mapped_column(String(64), primary_key=True)
    is_running: Mapped[bool] = mapped_column(server_default="false")
    strategy: Mapped[str] = mapped_column(String(32), server_default="none")

    def to_dict(self) -> dict[str, str | bool]:
        return {"user": self.user, "isRunning": self.is_running, "strategy": self.strategy}


class UserSettings(Model):
    __tablename__ = "user_settings"

    user: Mapped[str] = mapped_column(String(64), primary_key=True)
    max_position: Mapped[Decimal] = mapped_column(Numeric(20, 8), server_default="0")
    is_paper: Mapped[bool] = mapped_column(server_default="true")

    def to_dict(self) -> dict[str, str | bool]:
        return {
            "user": self.user,
            "maxPosition": f"{self.max_position.normalize():f}",
            "isPaper": self.is_paper,
        }
