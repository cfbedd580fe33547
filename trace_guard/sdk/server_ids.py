"""What user code gets that asks for the name or id of a project or organisation: what the server says.

The SDK's rows take what is known, so that their construction never waits for the network: see
:mod:`trace_guard.backends.project_ids`. Code that asks waits for the server, as it does with the SDK alone, but no
longer than for :attr:`GatewayHost.patience`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import braintrust
import braintrust.logger as bt
from braintrust.span_identifier_v4 import SpanComponentsV4
from braintrust.util import GLOBAL_PROJECT

from ..backends.project_ids import ORG_PLACEHOLDER, is_placeholder, project_name
from ..contain import contain, contained
from .gateway import Gateway
from .making_rows import is_making_rows, making_rows
from .replacements import Replacements

__all__ = ["ServerIds"]

_PROVISIONAL = "_trace_guard_provisional"

_asking: ContextVar[bool] = ContextVar("trace_guard_asks_the_server", default=False)


class ServerIds:
    """Replaces the functions by which the SDK looks up projects, and by which user code asks for ids."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._replacements = Replacements()

    def install(self) -> None:
        """Put the replacements in; a second call does nothing."""
        if self._replacements:
            return
        replace = self._replacements.replace
        replace(bt, "_compute_logger_metadata", self._metadata)
        replace(bt, "span_components_to_object_id", self._asks)
        replace(bt, "permalink", self._permalink)
        replace(bt.Logger, "project", lambda plain: property(lambda logger: self._complete(logger, plain).project))
        replace(bt.Logger, "org_id", lambda plain: property(lambda logger: self._complete(logger, plain).org_id))
        for module in (bt, braintrust):
            replace(module, "org_id", lambda plain: lambda: self._organisation_id(plain()))

    def uninstall(self) -> None:
        """Put the SDK's own functions back."""
        self._replacements.undo()

    def _metadata(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def compute(
            project_name: str | None = None, project_id: str | None = None, state: Any = None, **options: Any
        ) -> Any:
            given = {name: value for name, value in options.items() if value is not None}
            if state not in (None, bt._state):
                given["state"] = state
            elif not (given or _asking.get()) and self._gateway.host.lookup is not None:
                with making_rows():
                    bt._state.login()
                metadata = contained(
                    "name the project of rows", lambda: self._provisional(project_name, project_id), None
                )
                if metadata is not None:
                    return metadata
            return plain(project_name, project_id, **given)

        return compute

    def _provisional(self, name: str | None, project_id: str | None) -> Any:
        """What rows need, from what is known."""
        lookup = self._gateway.host.lookup
        if is_placeholder(project_id):
            project_id = None
        known = (lookup.project_name(project_id) if lookup is not None else None) if project_id else None
        name = name or known or project_id or GLOBAL_PROJECT
        project = bt.ObjectMetadata(id=project_id or self._gateway.id_of(name), name=name, full_info={})
        setattr(project, _PROVISIONAL, True)
        return bt.OrgProjectMetadata(org_id=str(bt._state.org_id), project=project)

    def _asks(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any, **options: Any) -> Any:
            self._verify_login()
            with _ask():
                return plain(*args, **options)

        return ask

    def _complete(self, logger: Any, plain: property) -> Any:
        """The metadata of a logger, as the server has it."""
        metadata = logger._lazy_metadata.get()
        project = metadata.project
        if is_making_rows():
            return metadata
        if hasattr(project, _PROVISIONAL):
            named = dict(logger._compute_metadata_args)
            if is_placeholder(project.id) and not named.get("project_name"):
                named["project_name"] = project_name(project.id)
            self._verify_login()
            with _ask():
                real = bt._compute_logger_metadata(**named)
            project.id, project.name, project.full_info = real.project.id, real.project.name, real.project.full_info
            delattr(project, _PROVISIONAL)
        metadata.org_id = self._organisation_id(metadata.org_id)
        return metadata

    def _organisation_id(self, known: str | None) -> str | None:
        """The id of the organisation; None without a server."""
        if known != ORG_PLACEHOLDER:
            return known
        self._verify_login()
        organisation = self._gateway.ask_for_organisation()
        return organisation.id if organisation is not None else None

    def _verify_login(self) -> None:
        """As the SDK alone would log in first: a wrong key raises. Not needed where the server has answered before."""
        lookup, login = self._gateway.host.lookup, bt._state.__dict__.get("login")
        if login is not None and lookup is not None and lookup.organisation is None:
            login.verify()

    def _permalink(self, plain: Callable[..., str]) -> Callable[..., str]:
        def permalink(slug: str, *args: Any, **options: Any) -> str:
            with contain("look up the organisation that a link names"):
                if slug and bt._state.org_name is None and SpanComponentsV4.from_str(slug).row_id:
                    organisation = self._gateway.ask_for_organisation()
                    if organisation is not None:
                        bt._state.org_id, bt._state.org_name = organisation.id, organisation.name
            return plain(slug, *args, **options)

        return permalink


@contextlib.contextmanager
def _ask() -> Iterator[None]:
    token = _asking.set(True)
    try:
        yield
    finally:
        _asking.reset(token)
