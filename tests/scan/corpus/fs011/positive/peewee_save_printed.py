import peewee

from .models import Execution


def on_execution(report):
    try:
        Execution.create(order_id=report["id"], price=report["px"], qty=report["qty"])
    except peewee.PeeweeException as err:  # expect: FS011
        print("execution lost", err)
