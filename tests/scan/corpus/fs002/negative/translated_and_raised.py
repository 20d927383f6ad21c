from failstop import Database


class BookClosed(Exception):
    pass


def book(database: Database, symbol):
    try:
        return database.query("SELECT * FROM books WHERE symbol = :s", {"s": symbol})
    except Exception as error:
        raise BookClosed(symbol) from error
