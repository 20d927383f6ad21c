from failstop import Database


class Jobs:
    def __init__(self, database: Database, clock):
        self.database = database
        self.clock = clock

    def tick(self):
        try:
            self.clock.compare(self.database.query("SELECT now()"))
        except Exception as error:  # expect: FS002
            self.clock.suspect(error)
