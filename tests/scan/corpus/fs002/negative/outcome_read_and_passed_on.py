from failstop import CriticalError, Database, Outcome


def place(database: Database, order):
    try:
        return database.run_once(f"order-{order.id}", order.write)
    except CriticalError as error:
        if error.outcome is Outcome.UNKNOWN:
            order.hold("in doubt")
        raise
