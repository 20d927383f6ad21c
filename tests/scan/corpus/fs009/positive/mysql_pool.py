from mysql.connector.pooling import MySQLConnectionPool

pool = MySQLConnectionPool(pool_name="bot", pool_size=5, host="db", user="bot", database="bot")  # expect: FS009
