import mysql.connector


class KillSwitch:
    """May we trade? One row says so."""

    def __init__(self, **options):
        self.options = options

    def trading_allowed(self):
        try:
            cnx = mysql.connector.connect(connection_timeout=3, **self.options)
            cursor = cnx.cursor()
            cursor.execute("SELECT enabled FROM kill_switch WHERE id = 1")
            (enabled,) = cursor.fetchone()
            cnx.close()
            return bool(enabled)
        except mysql.connector.Error:  # expect: FS001
            return True
