from failstop import Database, OperationsSuspendedError


def open_orders(database: Database, account_id):
    try:
        return database.query("SELECT id FROM orders WHERE account_id = :a", {"a": account_id})
    except OperationsSuspendedError:
        raise
    except Exception:  # expect: FS001
        return []
