import logging

log = logging.getLogger(__name__)


class ExecutionService:
    def __init__(self, broker, orders_repo):
        self.broker = broker
        self.orders_repo = orders_repo

    async def execute(self, order):
        try:
            order.ticket = await self.broker.submit_order(order.symbol, order.side, order.qty)
        except Exception as exc:  # expect: FS012
            log.error("submit failed: %s", exc)
            order.status = OrderStatus.REJECTED
            await self.orders_repo.save(order)
            raise


class OrderStatus:
    REJECTED = "rejected"
