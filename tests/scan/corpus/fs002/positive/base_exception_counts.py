from failstop import Database


def snapshot(database: Database, sink):
    try:
        sink.write(database.query("SELECT * FROM positions"))
    except BaseException as error:  # expect: FS002
        sink.mark(type(error).__name__)
