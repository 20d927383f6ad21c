"""The domain of the examples: orders, bots and their settings, with no word of HTTP."""

from trading.exchange import Exchange, Reconciliation
from trading.gateway import GatewayClient
from trading.models import BotState, Model, Order, Side, Trade, UserSettings
from trading.services import (
    BotStateService,
    DuplicateOrderError,
    TradeService,
    UserSettingsService,
)

__all__ = [
    "BotState",
    "BotStateService",
    "DuplicateOrderError",
    "Exchange",
    "GatewayClient",
    "Model",
    "Order",
    "Reconciliation",
    "Side",
    "Trade",
    "TradeService",
    "UserSettings",
    "UserSettingsService",
]
