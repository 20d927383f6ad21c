from failstop import Database


def reconcile(database: Database, book, strict):
    try:
        book.compare(database.query("SELECT id, qty FROM fills"))
    except Exception as error:  # expect: FS002
        if strict:
            raise
        book.note(error)
