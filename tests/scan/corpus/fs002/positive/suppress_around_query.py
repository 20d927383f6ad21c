from contextlib import suppress

from failstop import Database


class Screen:
    def __init__(self, database: Database, view):
        self.database = database
        self.view = view

    def refresh(self):
        with suppress(Exception):  # expect: FS002
            self.view.show(self.database.query("SELECT * FROM screen"))
