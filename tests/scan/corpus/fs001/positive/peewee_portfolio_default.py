import peewee
from playhouse.pool import PooledPostgresqlDatabase

from config import settings

database = PooledPostgresqlDatabase(
    settings.db_name, host=settings.db_host, connect_timeout=3, options="-c statement_timeout=3000"
)


class Holding(peewee.Model):
    symbol = peewee.CharField()
    quantity = peewee.DecimalField()

    class Meta:
        database = database


def holding(symbol):
    try:
        return Holding.get(Holding.symbol == symbol).quantity
    except Holding.DoesNotExist:
        return 0
    except peewee.PeeweeException:  # expect: FS001
        return 0
