import sqlite3


def upgrade(path):
    connection = sqlite3.connect(path)
    try:
        connection.execute("SELECT venue FROM trades LIMIT 1")
    except sqlite3.OperationalError:
        connection.execute("ALTER TABLE trades ADD COLUMN venue TEXT")
    connection.commit()
    connection.close()
