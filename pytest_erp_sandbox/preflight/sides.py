"""Prod and a sandbox as preflight looks at them: reached or not, and what their logins are on their servers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Generic, LiteralString, Self, TypeVar

from ..postgres.clients import Toolset
from ..postgres.connection import (
    DatabaseIdentity,
    ProdConnection,
    ProdDatabase,
    SandboxConnection,
    SandboxDatabase,
    identify,
)
from ..postgres.privileges import ReachedRole, reachable_roles

__all__ = ["NotReachedError", "ProdSide", "SandboxSide", "Side"]

ConnectionT = TypeVar("ConnectionT", ProdConnection, SandboxConnection)


class NotReachedError(Exception):
    """A question cannot be asked: the database or the role that it is about is not there. The text says why."""


class Side(ABC, Generic[ConnectionT]):
    """One database; a context that closes its connection.

    Attributes:
        subject: what findings call it.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._connection: ConnectionT | None = None

    @abstractmethod
    def connect(self) -> ConnectionT:
        """Open a session that is not the side's own; the caller closes it.

        Raises:
            PostgresError: the server cannot be reached, or refuses.
        """

    def reach(self) -> None:
        """Open the side's own session.

        Raises:
            PostgresError: the server cannot be reached, or refuses.
        """
        self._connection = self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def is_reached(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def connection(self) -> ConnectionT:
        """The side's own session.

        Raises:
            NotReachedError: there is none.
        """
        if self._connection is None:
            raise NotReachedError(f"{self.subject} could not be reached")
        return self._connection

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.connection.info.server_version // 10000

    @cached_property
    def identity(self) -> DatabaseIdentity:
        """Which database it is, by whatever name."""
        return identify(self.connection)

    @cached_property
    def login(self) -> str:
        """The role that the session logged in as."""
        return self._text("SELECT session_user")

    @cached_property
    def name(self) -> str:
        """The database's name on its server."""
        return self._text("SELECT current_database()")

    def _text(self, statement: LiteralString) -> str:
        row = self.connection.execute(statement).fetchone()
        assert row is not None
        return str(row[0])


class ProdSide(Side[ProdConnection]):
    """Prod, if one is set."""

    def __init__(self, database: ProdDatabase | None) -> None:
        super().__init__("prod")
        self.database = database
        self._reached_with: set[Toolset] = set()

    def connect(self) -> ProdConnection:  # noqa: D102 - as said above
        if self.database is None:
            raise NotReachedError("no prod is set")
        return self.database.connect()

    @property
    def connection(self) -> ProdConnection:  # noqa: D102 - as said above
        if self.database is None:
            raise NotReachedError("no prod is set")
        return super().connection

    @cached_property
    def reached(self) -> list[ReachedRole]:
        """The login, and all roles that it is a member of."""
        return reachable_roles(self.connection, self.login)

    def reach_with(self, programs: Toolset) -> None:
        """Connect with client programs; once, for however many sandboxes they are to dump it.

        Raises:
            PostgresError: they cannot.
        """
        if self.database is not None and programs not in self._reached_with:
            programs.reach(self.database)
            self._reached_with.add(programs)


class SandboxSide(Side[SandboxConnection]):
    """A sandbox, and the role that owns it."""

    def __init__(self, database: SandboxDatabase) -> None:
        super().__init__(database.setting.removesuffix(".dsn"))
        self.database = database
        self.role = database.role

    def connect(self) -> SandboxConnection:  # noqa: D102 - as said above
        return self.database.connect()

    @cached_property
    def reached(self) -> list[ReachedRole]:
        """The login, the role, and all roles that either is a member of: whatever the sandbox side can become.

        Raises:
            NotReachedError: there is no such role.
        """
        roles = reachable_roles(self.connection, self.login, self.role)
        if all(role.name != self.role for role in roles):
            raise NotReachedError(f"there is no role {self.role!r} on the server")
        return roles
