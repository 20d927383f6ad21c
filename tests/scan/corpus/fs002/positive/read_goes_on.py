from failstop import Database

from .app import failsafe
from .config import DATABASE_URL

database = Database.connect(DATABASE_URL, failsafe)


class Warmup:
    def __init__(self):
        self.symbols = None

    def run(self, loader):
        try:
            loader.load(database.query("SELECT symbol FROM instruments"))
        except Exception as error:  # expect: FS002
            loader.note(error)
            loader.start_anyway()
