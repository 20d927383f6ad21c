from failstop import CriticalError, Database


def label(database: Database, order, view):
    try:
        view.show(database.query("SELECT note FROM notes WHERE order_id = :o", {"o": order.id}))
    except CriticalError:
        raise
    except Exception:
        view.show_without_note()
