"""The policies of tenants."""

from __future__ import annotations

from datetime import timedelta

from mcp_persist_sa.checks import check_whole
from mcp_persist_sa.errors import InvalidInput
from mcp_persist_sa.identity import check_name
from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import Policy, PolicyBackend

_CENTURY = timedelta(days=36_500)


class Policies:
    """What is kept of each tenant, in the database, for every node and command alike.

    A policy keeps less than the options of the store do, never more. It is carried out by whoever removes what has
    expired: until then, what is over it is served.
    """

    def __init__(self, backend: PolicyBackend, options: Options) -> None:
        self._backend = backend
        self._options = options

    async def set(
        self,
        tenant: str | None,
        *,
        session_ttl: float | timedelta | None = None,
        event_ttl: float | timedelta | None = None,
        max_events: int | None = None,
        audit_ttl: float | timedelta | None = None,
    ) -> Policy:
        """Write the policy of a tenant; what it had before is gone. What is None, the options of the store say.

        Args:
            tenant: Whose; None for what is of no tenant, or of one whose policy has no `audit_ttl`: such a policy has
                this alone.
            session_ttl: Seconds after its last use for which a session is kept.
            event_ttl: Seconds for which an event is kept.
            max_events: How many events a session keeps, the newest.
            audit_ttl: Seconds for which it is known what was removed; None for no trail.

        Raises:
            InvalidInput: The policy says nothing, cannot be, or would keep more than the store does.
            Unsupported: The database has no policies.
        """
        policy = Policy(
            tenant=_checked(tenant),
            session_ttl=self._span("session_ttl", session_ttl),
            event_ttl=self._span("event_ttl", event_ttl),
            max_events=self._count(max_events),
            audit_ttl=self._span("audit_ttl", audit_ttl),
        )
        if policy == Policy(tenant=tenant):
            raise InvalidInput("A policy that says nothing is none: remove it, or give it at least one of its values.")
        if tenant is None and policy != Policy(tenant=None, audit_ttl=policy.audit_ttl):
            raise InvalidInput("For all that have no policy, the options of the store say how much is kept.")
        await self._backend.set_policy(policy)
        return policy

    def _span(self, name: str, value: float | timedelta | None) -> timedelta | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"The {name} of a policy is a number of seconds, not {value!r}.")
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        if not 0.001 <= seconds <= _CENTURY.total_seconds():
            raise InvalidInput(f"The {name} of a policy is from a millisecond to a century, not {seconds:g} s.")
        length = timedelta(seconds=seconds)
        longest = None if name == "audit_ttl" else self._options.span(name)
        if longest is not None and length > longest:
            raise _keeps_more(name, f"{longest.total_seconds():g} s")
        return length

    def _count(self, max_events: int | None) -> int | None:
        if max_events is None:
            return None
        check_whole("max_events", max_events, 1)
        most = self._options.max_events_per_session
        if most is not None and max_events > most:
            raise _keeps_more("max_events_per_session", str(most))
        return max_events

    async def get(self, tenant: str | None) -> Policy | None:
        """The policy of a tenant, or None if it has none."""
        return await self._backend.policy(_checked(tenant))

    async def list(self) -> list[Policy]:
        """All policies, in the order of their tenants."""
        return await self._backend.policies()

    async def remove(self, tenant: str | None) -> bool:
        """Remove the policy of a tenant, so that the options of the store hold; False if it had none.

        What was written down of removals stays for the time that the policy said.
        """
        return await self._backend.remove_policy(_checked(tenant))


def _checked(tenant: str | None) -> str | None:
    if tenant is not None and not check_name("tenant", tenant):
        raise InvalidInput("A tenant with a policy has a name.")
    return tenant


def _keeps_more(name: str, most: str) -> InvalidInput:
    return InvalidInput(
        f"A policy keeps no more than the store does, whose {name} is {most}. Raise that option in every node first, "
        "and give it here too: to a command, in the query of the DSN."
    )
