"""Everything that the store raises. Each message says what to do next, and never shows a password."""


class PersistError(Exception):
    """The base of every error of this package."""


class InvalidOption(PersistError, ValueError):
    """An option is unknown, or its value has the wrong type or is out of range."""


class InvalidDSN(PersistError, ValueError):
    """The DSN cannot be understood."""


class InvalidInput(PersistError, ValueError):
    """A message, id, key or value cannot be stored; nothing was written."""


class TooLarge(InvalidInput):
    """A message or a value is over the size limit of the store; nothing was written."""


class Unsupported(PersistError):
    """This kind of database cannot do that; nothing was written."""


class MissingExtra(PersistError, ImportError):
    """The DSN needs a driver that is not installed."""


class StoreClosed(PersistError):
    """The store was closed, or was never opened."""


class StoreUnavailable(PersistError):
    """The database cannot be reached, or did not do its work within the time allowed."""


class AccessDenied(StoreUnavailable):
    """The database refuses this user, password or privilege."""


class OutcomeUnknown(StoreUnavailable):
    """The connection was lost while a write was under way: it may have happened or not."""


class Overloaded(StoreUnavailable):
    """The queue of events that wait to be written is full; this event was not accepted."""


class SchemaError(PersistError):
    """The tables are not those that this release works with."""


class SchemaMissing(SchemaError):
    """The database holds no tables of ours yet."""


class SchemaBehind(SchemaError):
    """The database is at an older revision than this release."""


class SchemaAhead(SchemaError):
    """The database was upgraded by a newer release, which says that this one can no longer use it."""


class SchemaForeign(SchemaError):
    """Tables with our names exist, but were not made by our migrations."""


class SessionNotFound(PersistError, LookupError):
    """No such session: never opened, expired, deleted, or of another namespace."""


class SessionExists(PersistError):
    """A session with this id exists already."""


class SessionLimitReached(PersistError):
    """The store holds as many open sessions as `max_sessions` allows."""


class UnknownEvent(PersistError, LookupError):
    """The event id is malformed, forged, or not of this session."""


class StreamNotFound(PersistError, LookupError):
    """The session has no such stream."""


class HistoryLost(PersistError):
    """Events that follow the given place are gone: expired, purged, or rolled back with the database."""


class StreamClaimed(PersistError):
    """The stream is open and belongs to another writer."""


class VersionConflict(PersistError):
    """The value was changed by somebody else: its version is not the expected one."""


class RecordConflict(PersistError):
    """What is copied or imported is no later state of what is there already; nothing of it was written."""
