from failstop import AsyncDatabase


class Prices:
    def __init__(self, database: AsyncDatabase, board) -> None:
        self.database = database
        self.board = board

    async def paint(self) -> None:
        try:
            rows = await self.database.query("SELECT symbol, price FROM prices")
            self.board.paint(rows)
        except:  # expect: FS002
            self.board.paint_grey()
