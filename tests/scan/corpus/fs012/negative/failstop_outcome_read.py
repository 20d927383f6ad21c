from failstop import CriticalError, Database, Outcome


def book(database: Database, order):
    try:
        database.run_once(f"order-{order.id}", order.write)
    except CriticalError as error:
        if error.outcome in (Outcome.NOT_STARTED, Outcome.ROLLED_BACK):
            order.status = "rejected"
        raise
