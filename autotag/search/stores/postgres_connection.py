"""Connections to Postgres: their parts, what is missing for them, and the database's errors as ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError, SearchIndexError, install_hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg import Connection

_WAIT = 30  # seconds that a writer waits for another
_CONNECTING = 10  # seconds


def packages() -> Any:
    """Return psycopg.

    Raises:
        ConfigError: it or pgvector is not installed.
    """
    try:
        import pgvector.psycopg
        import psycopg
    except ImportError as error:
        raise ConfigError(f"Postgres needs: {install_hint('postgres')}") from error
    del pgvector
    return psycopg


def parts_of(url: str) -> dict[str, Any]:
    """Return the parts of a URL.

    Raises:
        SearchIndexError: it is none, or a password with special characters was taken for other parts. What
            it looks like is not told.
    """
    psycopg = packages()
    try:
        options: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:  # its message holds the whole URL
        options = {"port": "?"}
    port, parts = str(options.get("port", "")), (options.get("host", ""), options.get("dbname", ""))
    if (port and not port.replace(",", "").isdigit()) or any("@" in str(part) for part in parts):
        raise SearchIndexError(
            "postgresql://...",
            "this is not a URL of Postgres; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with "
            "special characters of the password percent-encoded (/ is %2F, @ is %40), or leave the password "
            "out and set PGPASSWORD.",
        )
    return options


def connected(options: Mapping[str, Any]) -> Connection[Any]:
    """Return a connection in autocommit mode.

    Raises:
        SearchIndexError: the server cannot be reached.
    """
    psycopg = packages()
    given = {"connect_timeout": _CONNECTING, "application_name": "autotag", **options}
    try:
        connection: Connection[Any] = psycopg.connect(**given, autocommit=True)
        connection.execute(f"SET lock_timeout = '{_WAIT}s'")
    except psycopg.Error as error:
        reason = _without_password(" ".join(str(error).split()), options)
        raise SearchIndexError(name_of(options), f"the server cannot be reached: {reason}") from None
    return connection


def name_of(options: Mapping[str, Any]) -> str:
    """Return a URL without a password."""
    user = f"{options['user']}@" if options.get("user") else ""
    port = f":{options['port']}" if options.get("port") else ""
    return f"postgresql://{user}{options.get('host', '')}{port}/{options.get('dbname', '')}"


@contextmanager
def errors_told(name: str) -> Iterator[None]:
    """Turn errors of the database, which has this name, into ours.

    Raises:
        SearchIndexError: in their place.
    """
    psycopg = packages()
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        reason = f"another program has been writing for {_WAIT} seconds; try again when it is done."
        raise SearchIndexError(name, reason) from error
    except psycopg.errors.InsufficientPrivilege as error:
        reason = f"the user may not do this ({_first_line(error)}); ask the owner of the database."
        raise SearchIndexError(name, reason) from error
    except psycopg.errors.ProgramLimitExceeded as error:
        reason = f"a limit of Postgres or pgvector: {_first_line(error)}. A path has at most 2,700 bytes."
        raise SearchIndexError(name, reason) from error
    except psycopg.errors.DiskFull as error:
        reason = "the server's disk is full; make room and run the same command again."
        raise SearchIndexError(name, reason) from error
    except psycopg.Error as error:
        raise SearchIndexError(name, _first_line(error)) from error


def _without_password(text: str, options: Mapping[str, Any]) -> str:
    password = options.get("password")
    return text.replace(str(password), "...") if password else text


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
