from sqlalchemy.exc import IntegrityError

from failstop import Database


def register(database: Database, user):
    try:
        with database.transaction(key=f"user-{user.id}") as connection:
            connection.exec_driver_sql("INSERT INTO users (id) VALUES (%s)", (user.id,))
    except IntegrityError:
        return "exists"
    return "created"
