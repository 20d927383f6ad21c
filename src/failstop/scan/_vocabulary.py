"""The words by which real code speaks of databases, outages, answers and outside effects.

Lives here: tables and regular expressions. Never here: anything that walks a tree.
"""

# ruff: noqa: SIM905 - long lists of words read better as text

from __future__ import annotations

import re
from enum import IntFlag

__all__ = ["Effect"]


class Effect(IntFlag):
    """What a call does to the database."""

    TOUCH = 0
    READ = 1
    WRITE = 2
    COMMIT = 4
    CONNECT = 8
    ROLLBACK = 16
    BEGIN = 32
    SCHEMA = 64
    CLOSE = 128
    SAVEPOINT = 256
    AUTOCOMMIT = 512
    UPSERT = 1024


R, W, C = Effect.READ, Effect.WRITE, Effect.COMMIT
X, B, D = Effect.CONNECT, Effect.BEGIN, Effect.SCHEMA

#: Packages whose import says that a module speaks to a database.
DATABASE_PACKAGES = frozenset(
    "sqlalchemy flask_sqlalchemy sqlmodel psycopg psycopg2 psycopg_pool asyncpg aiopg sqlite3 "
    "aiosqlite MySQLdb pymysql mysql aiomysql asyncmy mariadb peewee playhouse pony tortoise "
    "databases django cx_Oracle oracledb pyodbc pymssql pg8000 records dataset ormar gino "
    "pymongo motor mongoengine beanie duckdb apsw rest_framework supabase flask_mysqldb "
    "flask_pymongo snowflake clickhouse_driver peewee_async piccolo edgedb flaskext "
    "failstop".split()
)
#: Packages whose modules may hold connections and sessions of other sorts.
ACTIVE_RECORDS = frozenset("django rest_framework tortoise failstop records".split())
#: Packages whose calls no Database guards: it guards SQLAlchemy's engines.
UNGUARDED_PACKAGES = DATABASE_PACKAGES - frozenset(
    "sqlalchemy flask_sqlalchemy sqlmodel dataset records failstop".split()
)
DOCUMENT_PACKAGES = frozenset("pymongo motor mongoengine beanie flask_pymongo supabase".split())
EMBEDDED_DRIVERS = frozenset({"sqlite3", "aiosqlite", "apsw", "duckdb"})

#: Constructors by full dotted name, and the kind of object they make.
CONSTRUCTORS: dict[str, str] = {
    "sqlalchemy.create_engine": "engine",
    "sqlalchemy.engine.create_engine": "engine",
    "sqlalchemy.engine_from_config": "engine",
    "sqlalchemy.ext.asyncio.create_async_engine": "engine",
    "sqlmodel.create_engine": "engine",
    "sqlalchemy.orm.Session": "session",
    "sqlalchemy.orm.scoped_session": "session",
    "sqlalchemy.orm.sessionmaker": "factory",
    "sqlalchemy.ext.asyncio.async_sessionmaker": "factory",
    "sqlalchemy.ext.asyncio.async_scoped_session": "session",
    "sqlalchemy.ext.asyncio.AsyncSession": "session",
    "sqlmodel.Session": "session",
    "sqlmodel.ext.asyncio.session.AsyncSession": "session",
    "flask_sqlalchemy.SQLAlchemy": "database",
    "databases.Database": "database",
    "psycopg.connect": "connection",
    "psycopg.Connection.connect": "connection",
    "psycopg.AsyncConnection.connect": "connection",
    "psycopg2.connect": "connection",
    "asyncpg.connect": "connection",
    "asyncpg.create_pool": "pool",
    "aiopg.create_pool": "pool",
    "aiomysql.create_pool": "pool",
    "aiomysql.connect": "connection",
    "psycopg_pool.ConnectionPool": "pool",
    "psycopg_pool.AsyncConnectionPool": "pool",
    "psycopg2.pool.SimpleConnectionPool": "pool",
    "psycopg2.pool.ThreadedConnectionPool": "pool",
    "sqlite3.connect": "connection",
    "aiosqlite.connect": "connection",
    "duckdb.connect": "connection",
    "MySQLdb.connect": "connection",
    "pymysql.connect": "connection",
    "pymysql.Connect": "connection",
    "mysql.connector.connect": "connection",
    "mysql.connector.pooling.MySQLConnectionPool": "pool",
    "mariadb.connect": "connection",
    "pyodbc.connect": "connection",
    "pymssql.connect": "connection",
    "cx_Oracle.connect": "connection",
    "oracledb.connect": "connection",
    "pg8000.connect": "connection",
    "peewee.SqliteDatabase": "database",
    "peewee.PostgresqlDatabase": "database",
    "peewee.MySQLDatabase": "database",
    "playhouse.pool.PooledPostgresqlDatabase": "database",
    "playhouse.pool.PooledPostgresqlExtDatabase": "database",
    "playhouse.pool.PooledMySQLDatabase": "database",
    "playhouse.postgres_ext.PostgresqlExtDatabase": "database",
    "playhouse.db_url.connect": "database",
    "pymongo.MongoClient": "mongo",
    "pymongo.mongo_client.MongoClient": "mongo",
    "motor.motor_asyncio.AsyncIOMotorClient": "mongo",
    "flask_pymongo.PyMongo": "mongo",
    "flask_mysqldb.MySQL": "mysql_extension",
    "supabase.create_client": "supabase",
    "failstop.Database": "guarded",
    "failstop.AsyncDatabase": "guarded",
    "failstop.Database.connect": "guarded",
    "failstop.AsyncDatabase.connect": "guarded",
    "redis.Redis": "cache",
    "redis.StrictRedis": "cache",
    "redis.from_url": "cache",
    "redis.asyncio.from_url": "cache",
    "redis.asyncio.Redis": "cache",
    "requests.Session": "http",
    "requests.session": "http",
    "aiohttp.ClientSession": "http",
    "httpx.Client": "http",
    "httpx.AsyncClient": "http",
    "boto3.Session": "cloud",
    "boto3.session.Session": "cloud",
    "tensorflow.Session": "other",
    "kafka.KafkaProducer": "messages",
    "aiokafka.AIOKafkaProducer": "messages",
    "confluent_kafka.Producer": "messages",
    "confluent_kafka.SerializingProducer": "messages",
    "nats.connect": "messages",
    "kombu.Producer": "messages",
    "boto3.client": "cloud",
    "smtplib.SMTP": "smtp",
    "smtplib.SMTP_SSL": "smtp",
}

#: Type names in annotations, and the kind they speak of.
ANNOTATIONS: dict[str, str] = {
    "Session": "session",
    "AsyncSession": "session",
    "SessionDep": "session",
    "DbSession": "session",
    "DBSession": "session",
    "scoped_session": "session",
    "sessionmaker": "factory",
    "async_sessionmaker": "factory",
    "Engine": "engine",
    "AsyncEngine": "engine",
    "Connection": "connection",
    "AsyncConnection": "connection",
    "PoolConnectionProxy": "connection",
    "Cursor": "cursor",
    "AsyncCursor": "cursor",
    "Pool": "pool",
    "ConnectionPool": "pool",
    "AsyncConnectionPool": "pool",
    "ClientSession": "http",
    "AsyncClient": "http",
    "Redis": "cache",
    "AsyncDatabase": "database",
    "Database": "database",
}

#: The kind a method of a kind gives: (kind, method) → kind.
DERIVED: dict[tuple[str, str], str] = {
    ("connection", "cursor"): "cursor",
    ("connection", "__enter__"): "connection",
    ("connection", "execution_options"): "connection",
    ("connection", "execute"): "cursor",
    ("cursor", "execute"): "cursor",
    ("session", "execute"): "cursor",
    ("session", "query"): "query",
    ("session", "scalars"): "cursor",
    ("session", "connection"): "connection",
    ("session", "begin"): "session",
    ("engine", "connect"): "connection",
    ("engine", "begin"): "connection",
    ("engine", "raw_connection"): "connection",
    ("engine", "execution_options"): "engine",
    ("pool", "acquire"): "connection",
    ("pool", "getconn"): "connection",
    ("pool", "get_connection"): "connection",
    ("pool", "connection"): "connection",
    ("database", "uow"): "repository",
    ("database", "unit_of_work"): "repository",
    ("database", "session"): "session",
    ("database", "engine"): "engine",
    ("database", "connection"): "connection",
    ("database", "cursor"): "cursor",
    ("database", "get_connection"): "connection",
    ("database", "get_session"): "session",
    ("database", "connect"): "connection",
    ("database", "acquire"): "connection",
    ("factory", "begin"): "session",
    ("guarded", "transaction"): "connection",
    ("guarded", "session"): "session",
    ("mysql_extension", "connection"): "connection",
    ("mysql_extension", "connect"): "connection",
    ("query", "filter"): "query",
    ("query", "filter_by"): "query",
    ("query", "join"): "query",
    ("query", "order_by"): "query",
    ("query", "limit"): "query",
    ("query", "options"): "query",
    ("query", "offset"): "query",
}


def _table(**methods: str) -> dict[str, Effect]:
    """Method names by effect: `_table(READ="get all")`."""
    return {name: Effect[key] for key, names in methods.items() for name in names.split()}


_RESULT = "fetchall fetchone fetchmany fetchval fetchrow fetch fetch_all fetch_one fetch_val "
METHODS: dict[str, dict[str, Effect]] = {
    "session": _table(
        READ="query scalars scalar get get_one refresh exec stream stream_scalars connection "
        "bulk_fetch",
        WRITE="add add_all delete flush bulk_save_objects bulk_insert_mappings "
        "bulk_update_mappings",
        COMMIT="commit",
        ROLLBACK="rollback",
        BEGIN="begin",
        SAVEPOINT="begin_nested",
        UPSERT="merge",
        CLOSE="close remove close_all expunge_all expire_all",
    ),
    "connection": _table(
        READ=_RESULT + "scalar scalars ping stream run_sync iterdump",
        WRITE="copy_records_to_table copy_from copy_to_table insert",
        COMMIT="commit",
        ROLLBACK="rollback",
        BEGIN="begin transaction start_transaction",
        SAVEPOINT="begin_nested savepoint",
        TOUCH="cursor execute executemany executescript prepare set_autocommit autocommit",
        CLOSE="close terminate",
        CONNECT="reconnect",
    ),
    "cursor": _table(
        READ=_RESULT + "scalar scalar_one scalar_one_or_none scalars mappings all first one "
        "one_or_none",
        WRITE="callproc copy_expert copy_from",
        TOUCH="execute executemany executescript",
        CLOSE="close",
    ),
    "query": _table(
        READ="all first one one_or_none scalar count get get_or_404 first_or_404 exists paginate "
        "filter filter_by with_for_update yield_per order_by limit join options",
        WRITE="delete update",
    ),
    "engine": _table(
        CONNECT="connect raw_connection begin", TOUCH="execute", READ="scalar", CLOSE="dispose"
    ),
    "pool": _table(
        CONNECT="acquire getconn connection get_connection open connect",
        READ=_RESULT,
        TOUCH="execute executemany",
        CLOSE="close closeall terminate putconn release",
    ),
    "guarded": _table(READ="query health", WRITE="transaction session run_once"),
    "mongo": _table(
        READ="find find_one aggregate count_documents distinct list_collection_names "
        "server_info command estimated_document_count",
        WRITE="insert_one insert_many update_one update_many delete_one delete_many replace_one "
        "bulk_write find_one_and_update",
    ),
}
#: Methods that mean a database whatever the receiver is called.
UNIVERSAL = _table(
    READ="fetchall fetchone fetchmany fetchval fetchrow scalar_one_or_none scalar_one "
    "scalars read_sql read_sql_query read_sql_table get_object_or_404 find_one count_documents",
    WRITE="executemany bulk_create bulk_update bulk_insert_mappings bulk_save_objects insert_one "
    "insert_many update_one update_many delete_one delete_many to_sql add_all executescript "
    "replace_one find_one_and_update",
    UPSERT="get_or_create update_or_create",
    SCHEMA="create_all create_tables",
)
#: Methods of a Django manager or a Flask-SQLAlchemy `Model.query`.
MANAGER = _table(
    READ="all filter get exclude first last count exists values values_list aggregate annotate "
    "order_by latest earliest in_bulk none raw get_or_404 filter_by paginate one one_or_none "
    "first_or_404 select_related prefetch_related distinct limit join options aget acount afirst "
    "aexists alast select_for_update only defer iterator using none with_entities scalar",
    WRITE="create bulk_create update delete bulk_update acreate aupdate adelete abulk_create",
    UPSERT="get_or_create update_or_create aget_or_create aupdate_or_create",
)
PEEWEE = _table(
    READ="select get get_or_none get_by_id",
    WRITE="create insert insert_many delete update delete_by_id bulk_create save delete_instance",
    UPSERT="get_or_create replace replace_many",
    SCHEMA="create_table",
)

READ_VERBS = re.compile(
    r"^_?(a?get|find|list|load|read|fetch|select|query|count|exists|search|lookup|retrieve|has|is|"
    r"all|first|one|check|scan|iter|latest|sum|calculate)(_|$|[a-z0-9]*_)"
)
WRITE_VERBS = re.compile(
    r"^_?(a?save|insert|update|delete|add|create|store|record|write|put|upsert|log|set|remove|mark|"
    r"persist|bulk|append|register|cancel|close|open|execute|place|submit|increment|set|archive|"
    r"process|reserve|book|settle|debit|credit|transfer|withdraw|deposit|activate|deactivate|enable|"
    r"disable|toggle|expire|finali[sz]e|complete|approve|reject|assign|release|claim|track)_"
)
WRITE_WORDS = frozenset(
    "save insert update delete add create store record write put upsert persist remove commit "
    "save_all executemany".split()
)
#: Calls that run the function they are given.
RUNNERS = frozenset(
    "to_thread run_in_threadpool run_sync_in_worker_thread run_sync from_thread_run "
    "run_on_executor deferToThread".split()
)
#: Classes that wrap what they are given.
LAYERS = re.compile(
    r"^[A-Z]\w*(Service|Repository|Repo|Dao|DAO|Store|Storage|CRUD|Gateway|Manager)$"
)
CONVERSIONS = re.compile(
    r"^_?(encrypt|decrypt|hash|format|parse|to|from|convert|normali[sz]e|make|build|clear|invalidate|"
    r"validate|generate|log|raise|is|as)(_|$)|.*(cache|url|dsn|config|settings)\w*$"
)
SCHEMA_VERBS = re.compile(
    r"^_?(init|initialize|setup|create|ensure|migrate|upgrade|run)_?(\w*_)?"
    r"(db|database|schema|tables?|migrations?)$|^_?(migrate|create_all|create_tables|upgrade)$"
)

#: Names of functions that give a connection, session or the like.
GIVERS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"^_?(get|make|open|create|new|acquire|obtain|connect_to|connect)?_?"
            r"(db|database|sqlite|pg|postgres|postgresql|mysql|sql)?_?"
            r"(conn|connection|con)(_from_pool|_with_retry)?$"
        ),
        "connection",
    ),
    (
        re.compile(r"^_?(connect|get|open)_?(to_)?_?(db|database|postgres|mysql|sqlite|pg)$"),
        "database",
    ),
    (
        re.compile(
            r"^_?(get|make|open|create|new)?_?(async_)?(db_?)?session(_?local|_scope|_ctx|"
            r"_context|_maker|_factory)?$",
            re.IGNORECASE,
        ),
        "session",
    ),
    (
        re.compile(
            r"^(Async)?SessionLocal$|^(Async|Scoped|Sync|Db|DB|Local|Read|Write|App)?Session(Factory|Maker|Local)?$|^Local(Async)?Session$|"
            r"^async_session_maker$|^AsyncSessionLocal$|^DBSession$"
        ),
        "session",
    ),
    (re.compile(r"^_?(get|open|make)?_?(db_|dict_)?(cursor|cur)$"), "cursor"),
    (re.compile(r"^_?(get|create|make)_(db_|pg_|postgres_|connection_)?pool$"), "pool"),
    (re.compile(r"^_?(get|create|make)_(db_|async_)?engine$"), "engine"),
)

#: Names of variables and attributes, without leading underscores.
NAMES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^(\w+_)?(session|sess)$|^dbsession$"), "session"),
    (re.compile(r"^(\w+_)?(cursor|cur|curs)$|^(cursor|cur)\d?$"), "cursor"),
    (re.compile(r"^(\w+_)?(conn|connection|con|cnx|cxn|cnxn)\d?$|^dbconn$"), "connection"),
    (re.compile(r"^(\w+_)?engine$"), "engine"),
    (re.compile(r"^(\w+_)?pool$"), "pool"),
    (
        re.compile(
            r"^(\w+_)?(db|database|dbm)$|^mysql$|^dal$|^dao$|"
            r"^(\w+_)?(db|database)_?(manager|handler|service|client|helper|wrapper|store)$|"
            r"^(trade|order|position|signal|user)s?_(db|store|storage|dao)$"
        ),
        "database",
    ),
    (re.compile(r"^(\w+_)?(repo|repository|uow|crud)$"), "repository"),
)
DATABASE_MODULES = re.compile(
    r"(^|[._])(db|database|databases|crud|dal|dao|daos|repo|repos|repository|repositories|queries|"
    r"persistence|db_\w+|\w+_db|database_\w+|\w+_database|\w+_repository|\w+_repo|\w+_crud|"
    r"postgres\w*|sqlite\w*|mysql\w*|pg)$"
)
MODEL_MODULES = re.compile(r"(^|[._])(models?|entities|orm|tables|schema)(\.|$)|_models?$")

SQL = re.compile(
    r"^\s*(?:/\*.*?\*/\s*|--[^\n]*\n\s*)*(SELECT|INSERT|UPDATE|DELETE|MERGE|REPLACE|CREATE|ALTER|"
    r"DROP|TRUNCATE|WITH|PRAGMA|SHOW|EXPLAIN|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|SET|LOCK|COPY|CALL|"
    r"VACUUM|ANALYZE|GRANT|NOTIFY|LISTEN|REFRESH|START|RELEASE|DO|ATTACH)\b",
    re.IGNORECASE | re.DOTALL,
)
SQL_WRITES = frozenset("INSERT UPDATE DELETE MERGE REPLACE COPY CALL TRUNCATE DO".split())
SQL_SCHEMA = frozenset("CREATE ALTER DROP GRANT REFRESH".split())
SQL_UPSERT = re.compile(
    r"ON\s+CONFLICT|ON\s+DUPLICATE\s+KEY|INSERT\s+OR\s+(IGNORE|REPLACE)|INSERT\s+IGNORE|\bMERGE\b|"
    r"WHERE\s+NOT\s+EXISTS|^\s*REPLACE\s+INTO",
    re.IGNORECASE,
)
IDEMPOTENT = re.compile(
    r"idempoten|dedup|on_conflict|on_duplicate|client_order_id|request_id|run_once", re.IGNORECASE
)

#: Errors by the last part of their name.
BROAD_ERRORS = frozenset({"Exception", "BaseException", "StandardError"})
ALL_DATABASE_ERRORS = frozenset(
    "SQLAlchemyError DBAPIError DatabaseError PostgresError PeeweeException MySQLError "
    "PyMongoError OperationalError BaseORMException Error MongoError StorageError "
    "PsycopgError TransactionManagementError".split()
)
DATABASE_ERRORS = ALL_DATABASE_ERRORS | frozenset(
    "InterfaceError InternalError DisconnectionError StatementError PendingRollbackError "
    "ResourceClosedError InvalidRequestError PoolTimeout PoolClosed PoolError "
    "ConnectionDoesNotExistError CannotConnectNowError ConnectionFailure "
    "ServerSelectionTimeoutError AutoReconnect ConnectionFailureError DBConnectionAPIError "
    "AdminShutdown QueryCanceled TooManyConnectionsError PostgresConnectionError "
    "InterfaceError NotSupportedError ConnectionException OperationFailure "
    "QueryCanceledError ConnectionTimeout DBAPIError DBConnectionError "
    "UnboundExecutionError ConnectionInvalidated".split()
)
BUSINESS_ERRORS = frozenset(
    "IntegrityError UniqueViolation UniqueViolationError ForeignKeyViolation DuplicateKeyError "
    "ForeignKeyViolationError NotNullViolation CheckViolation NoResultFound MultipleResultsFound "
    "DoesNotExist ObjectDoesNotExist MultipleObjectsReturned DataError ProgrammingError "
    "UndefinedTable UndefinedTableError DuplicateTable DuplicateColumn UndefinedColumn "
    "StaleDataError FlushError ObjectDeletedError NoSuchTableError DuplicateDatabase "
    "ValidationError IntegrityConstraintViolationError InvalidTextRepresentation".split()
)
NETWORK_ERRORS = frozenset(
    "OSError IOError ConnectionError ConnectionRefusedError ConnectionResetError TimeoutError "
    "BrokenPipeError ConnectionAbortedError timeout gaierror".split()
)
ROLLED_BACK_ERRORS = frozenset(
    "SerializationFailure SerializationError DeadlockDetected DeadlockDetectedError "
    "TransactionRollbackError TransactionRollback DeadlockError LockNotAvailable "
    "LockNotAvailableError RestartTransaction SerializationFailureError StaleDataError".split()
)
CRITICAL_ERRORS = frozenset(
    "CriticalError CriticalDatabaseError DatabaseUnavailableError ConnectionFailedError "
    "TransactionFailedError CommitOutcomeUnknownError GatewayUnavailableError "
    "OperationsSuspendedError".split()
)
#: The critical errors that take every failure of a guarded database.
ALL_CRITICAL_ERRORS = frozenset({"CriticalError", "CriticalDatabaseError"})
DATABASE_ERROR_NAME = re.compile(
    r"(Database|DB|Db|SQL|Postgres|Repository|Persistence|Storage)\w*"
    r"(Error|Exception|Unavailable|Failure)$"
)

#: Words in a name that say the value is not the database's own.
INVENTED = re.compile(
    r"(^|_)(mock|mocked|fake|dummy|sample|samples|demo|simulated?|simulation|synthetic|placeholder|"
    r"example|hardcoded|hard_coded|stub|static|fallback|fall_back|default|defaults|generate_\w*)"
    r"(_|$|s$)",
    re.IGNORECASE,
)
KEPT = re.compile(
    r"(^|_)(cache|cached|caches|stale|last|last_known|previous|prev|memory|in_memory|inmemory|"
    r"local|snapshot|buffer|backup|memo|lkg|known)(_|$|d$)",
    re.IGNORECASE,
)
SUBSTITUTE = re.compile(
    r"(in_?memory|memory|mem|mock|fake|dummy|stub|fallback|local|null|no_?op|offline|simulated|"
    r"sqlite|json|file|dict|temp)_?(\w+_)?(db|database|store|storage|repo|repository|session|"
    r"engine|conn|connection|cursor|backend|client|persistence|pool|manager)\w*$|"
    r"^(Magic)?Mock$|^AsyncMock$|^InMemory\w+$|^Memory(Store|Storage|Database|Repository|Backend)$",
    re.IGNORECASE,
)
#: Words in a called name that say the call reports the failure.
REPORTING = re.compile(
    r"(error|fail|exception|abort|problem|unavailable|crash|exit|server_error|50\d|raise|reject|"
    r"unhealthy|retry|bad_gateway|http_500)",
    re.IGNORECASE,
)
ERROR_KEYS = frozenset(
    "error errors exception err error_message errormessage errmsg error_msg reason failure "
    "traceback error_code errorcode error_type fault".split()
)
ERROR_TEXT = re.compile(
    r"(error|fail|unavailab|exception|unable|could not|couldn't|cannot|can't|down|offline|"
    r"try again|went wrong|not connected|disconnected|unhealthy|problem|degraded|timed? ?out|"
    r"critical|broken|unreachable|not available|lost)",
    re.IGNORECASE,
)
SUCCESS_TEXT = re.compile(
    r"^(ok|okay|success|successful|healthy|up|alive|running|online|ready|operational|connected|"
    r"active|pass|good|accepted|filled|completed?|available|open)$",
    re.IGNORECASE,
)
FACT_TEXT = re.compile(
    r"(not found|no \w+( \w+)? (found|available|exist)|does not exist|doesn't exist|invalid|"
    r"unauthori[sz]ed|not logged|no active|no open|no orders|already|forbidden|not allowed|"
    r"incorrect|expired|market (is )?open|log ?in)",
    re.IGNORECASE,
)
#: Calls that only wrap the value an endpoint answers.
WRAPPERS = frozenset(
    "jsonify JsonResponse JSONResponse ORJSONResponse UJSONResponse Response HttpResponse "
    "make_response json_response dumps list dict tuple set sorted HTMLResponse PlainTextResponse "
    "json str int float Decimal OrderedDict defaultdict Markup success_response deepcopy copy "
    "web.json_response jsonable_encoder model_validate frozenset Series".split()
)
PAGES = frozenset(
    "render_template render TemplateResponse template render_to_response "
    "render_template_string".split()
)
EMPTY_MAKERS = frozenset(
    "DataFrame Series list dict set tuple OrderedDict defaultdict Counter none empty zeros array "
    "Decimal float int str deque bytes frozenset SimpleNamespace".split()
)

LOGGING_METHODS = frozenset(
    "debug info warning warn error exception critical log fatal print write echo secho msg "
    "print_exc print_exception capture_exception capture_message set_status record_exception "
    "trace notice success inc increment add_event".split()
)
LOGGERS = re.compile(
    r"log|sentry|console|stdout|stderr|traceback|metric|counter|span|capsys|click|rich|stats",
    re.IGNORECASE,
)
SHUTDOWN = re.compile(
    r"(^|_)(close|shutdown|shut_down|cleanup|clean_up|teardown|tear_down|dispose|stop|disconnect|"
    r"exit|aexit|del|atexit|finali[sz]e|release|drop|reset_test|destroy|terminate)(_|$)",
    re.IGNORECASE,
)
STARTUP = re.compile(
    r"(^|_)(startup|start_up|lifespan|init|initialize|initialise|setup|bootstrap|seed|migrate|"
    r"migrations?|on_start|create_app|ready|upgrade|create_tables?|create_all|ensure_\w+)(_|$)",
    re.IGNORECASE,
)

HEALTH_NAME = re.compile(
    r"(^|_)(health|healthz|healthcheck|health_?check|ready|readyz|readiness|is_healthy)(_|$)",
    re.IGNORECASE,
)
HEALTH_VIEW = re.compile(
    r"^\w*(Health|Ready|Readiness|SystemStatus)(Check)?(View|Resource|Handler)?$"
)
STATUS_NAME = re.compile(
    r"^(get_|api_|check_|show_)?(system_|server_|service_|app_|api_|db_|database_)?status"
    r"(_check|_endpoint|_view|_api)?$",
    re.IGNORECASE,
)
HEALTH_PATH = re.compile(
    r"(^|/)(_?health\w*|healthz|health[-_]?check|readyz?|readiness|status|system[-_/]status|"
    r"heartbeat|_status)/?$|/health/",
    re.IGNORECASE,
)
LIVENESS = re.compile(
    r"(^|[/_-])(live|livez|liveness|alive|ping|heartbeat)([/_-]|$)", re.IGNORECASE
)
READINESS = re.compile(r"(^|[/_-])(ready|readyz|readiness)([/_-]|$)", re.IGNORECASE)
ROUTE_METHODS = frozenset(
    "route get post put patch delete websocket api_route head options".split()
)

VIEW_DECORATORS = frozenset(
    "api_view require_http_methods require_GET require_POST action csrf_exempt login_required "
    "view_config".split()
)
VIEW_METHODS = frozenset("get post put patch delete list retrieve create".split())

#: Effects outside the database.
EFFECT_CALLS = re.compile(
    r"^(requests|httpx)\.(post|put|patch|delete|request)$|^urllib\.request\.urlopen$|"
    r"^django\.core\.mail\.(send_mail|send_mass_mail|mail_admins)$|^aiosmtplib\.send$|"
    r"^stripe\.\w+\.(create|modify|capture|confirm)$|^grequests\.(post|put)$"
)
PAYMENTS = re.compile(
    r"^(stripe|paypalrestsdk|braintree|razorpay|square)\.[\w.]*\.?"
    r"(create|capture|confirm|charge|execute|sale)$"
)
#: Names of things whose loss is money.
BUSINESS = re.compile(
    r"(?<![a-z])(order|trade|payment|position|transaction|transfer|withdraw|deposit|invoice|booking|"
    r"leg|fill|signal|settle|refund|charge|purchase|subscription|payout|mark)(?!er|ing_|ed_)",
    re.IGNORECASE,
)
HTTP_READS = re.compile(r"^(requests|httpx)\.get$|^yfinance\.\w+$")
EFFECT_METHODS = frozenset(
    "create_order place_order submit_order send_order cancel_order create_market_order "
    "create_limit_order create_market_buy_order create_market_sell_order "
    "create_limit_buy_order create_limit_sell_order place_market_order place_limit_order "
    "market_buy market_sell order_market_buy order_market_sell buy_market "
    "futures_create_order close_position_market modify_order amend_order "
    "send_mail send_email send_message sendmail send_sms send_notification send_telegram "
    "send_telegram_message send_alert send_webhook send_email_async email_user "
    "apply_async send_task delay basic_publish publish publish_message send_and_wait produce "
    "enqueue enqueue_call enqueue_job kiq send_transaction send_raw_transaction place_trade "
    "execute_order executeOrder placeOrder submitOrder order_send".split()
)
MESSAGING = (
    "aio_pika",
    "pika",
    "kafka",
    "aiokafka",
    "confluent_kafka",
    "nats",
    "kombu",
    "faststream",
)
AMBIGUOUS_EFFECTS = frozenset("delay publish produce enqueue send_message send_alert".split())
HTTP_METHODS = frozenset("post put patch delete request".split())
VENUES = re.compile(
    r"(^|_)(exchange|broker|venue|gateway|binance|ib|alpaca|kite|client|api|bybit|ccxt|mt5|"
    r"oanda|kraken|coinbase|okx|dhan|upstox|zerodha|trader|stripe|payment|executor|"
    r"order_manager|trading_client)(_|$)",
    re.IGNORECASE,
)

#: Names in a condition that ask which environment this is.
ENVIRONMENT_NAME = re.compile(
    r"(^|_)(env|environment|debug|testing|app_env|flask_env|django_env|node_env|stage|"
    r"is_dev|is_development|dev_mode|demo_mode|mock_mode|use_mock\w*|use_fake\w*|"
    r"mock_data|development|is_test|is_local|app_mode|run_mode|is_demo|use_demo\w*|use_sample\w*|"
    r"simulation_mode|is_production|is_prod|demo)(_|$)",
    re.IGNORECASE,
)
#: Names that are true or false by the environment.
ENVIRONMENT_FLAG = re.compile(
    r"(^|_)(is_(dev|development|debug|local|test|testing|demo|prod|production|sandbox)|debug|testing|"
    r"demo|demo_mode|demo_enabled|dev_mode|mock|mock_\w+|use_(mock|fake|sample|demo|simulat)\w*|"
    r"fake_\w+|sample_data|simulation_mode)$",
    re.IGNORECASE,
)
ENVIRONMENT_VALUE = re.compile(
    r"^(dev|develop|development|local|test|testing|staging|demo|mock|sandbox|ci|prod|production|"
    r"debug)$",
    re.IGNORECASE,
)
URL_NAME = re.compile(
    r"(database|db|postgres|postgresql|pg|mysql|sql(alchemy)?)_?(async_)?(url|uri|dsn|host|conn\w*|"
    r"connection_string|database_uri)$|^dsn$|^(database|db)_?(available|enabled|connected|ready)$|"
    r"^(use|has|is)_(db|database|postgres\w*|postgresql|mysql|sql)(_\w+)?$",
    re.IGNORECASE,
)
ABSENT_FLAG = re.compile(
    r"(db|database|postgres\w*|mysql|sql\w*|asyncpg|psycopg\w*|connection|mongo\w*)_?"
    r"(is_)?(available|enabled|connected|ready|ok|up|online|initialized|healthy|working|alive)$|"
    r"^_?(use|using|has)_(db|database|postgres\w*|mysql|real_db|sql\w*|mongo\w*)$|"
    r"^_?(is_)?connected$",
    re.IGNORECASE,
)
PRESENT_FLAG = re.compile(
    r"^_?(use|using|is)_?(memory|in_memory|inmemory|mock\w*|fallback\w*|fake\w*|offline\w*)$|"
    r"^_?(fallback|offline|degraded|memory|mock|demo)_?(mode|active|enabled|storage)?$",
    re.IGNORECASE,
)
DEAD_STATE = re.compile(
    r"^(rejected|failed|fail|cancell?ed|error|failure|aborted|voided|declined)$", re.IGNORECASE
)
STATE_NAME = re.compile(r"(^|_)(status|state)$", re.IGNORECASE)
DEADLINES = re.compile(
    r"(connect_timeout|connection_timeout|statement_timeout|command_timeout|read_timeout|"
    r"query_timeout|max_execution_time|socket_timeout|write_timeout|login_timeout|lock_timeout|"
    r"tcp_user_timeout|connectTimeout|idle_in_transaction)",
    re.IGNORECASE,
)
RETRY_NAME = re.compile(
    r"(^|_)retr(y|ies|ying)(_|$)|(^|_)backoff(_|$)|(^|_)with_retr", re.IGNORECASE
)
ATTEMPT_NAME = re.compile(r"attempt|retr(y|ies)|tries|\btry_", re.IGNORECASE)
TRANSACTION_GIVERS = re.compile(
    r"^_?(session_scope|transaction|transaction_scope|unit_of_work|atomic|begin|transactional|"
    r"db_transaction|get_transaction|transaction_context|managed_session|db_session_scope)$"
)
#: A file without one of these words cannot hold a finding, and is not parsed.
SUBJECT = re.compile(
    rb"sql|psycopg|asyncpg|session|cursor|commit|execute|\.objects\b|connect|pool|database|"
    rb"\bdb\b|_db\b|\bdb_|repo|\.query\b|peewee|mongo|fetchall|failstop|crud|DATABASES",
    re.IGNORECASE,
)
TRIGGER = re.compile(
    rb"\bexcept\b|suppress|retry|environ|getenv|engine|Pool|create_pool|timeout|health|status|"
    rb"ready|atomic|begin|commit|transaction|DATABASES|SQLAlchemy|\bENV|DEBUG|mock|demo|settings|config|"
    rb"Database\(|_URL|backoff|attempt|move_on_after|wait_for",
    re.IGNORECASE,
)
