from tortoise.exceptions import DBConnectionError, OperationalError

from bot.models import Subscriber


async def subscriber_plan(telegram_id: int) -> str:
    try:
        subscriber = await Subscriber.get_or_none(telegram_id=telegram_id)
        return subscriber.plan if subscriber else "free"
    except (DBConnectionError, OperationalError):  # expect: FS001
        return "free"
