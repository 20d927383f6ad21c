import stamina

from failstop import Database, GatewayUnavailableError


@stamina.retry(on=GatewayUnavailableError, attempts=3)
def book(database: Database, order):
    return database.run_once(f"order-{order.id}", order.write)
