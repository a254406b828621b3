# Written by tools/generate.py: change what it is made of, and run it.
"""Sources with their write keys, schemas of events, rules for traits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .. import _wire as wire
from .._retry import Kind
from ..errors import UsageError
from ..model.base import Page
from ..model.profile import time_of
from ..model.registry import PutResult, Rules, Schema, SchemaCheck, Source, SourceKey
from ._caller import Caller


class Sources:
    """`hub.sources`: the systems that send."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create(
        self,
        name: str,
        *,
        primary_order: Sequence[str] = (),
        default_currency: str = "",
        timeout: float | None = None,
    ) -> SourceKey:
        """Makes a source; its write key is shown this once.

        >>> shop = hub.sources.create("web-shop", default_currency="EUR")
        >>> sender = hub.with_options(write_key=shop.write_key)

        Args:
            name: Lower-case letters, digits, `-`, `_` and `.`, at most 64.
            primary_order: Which identifier of an event it is filed under, most preferred first, by namespace.
            default_currency: Of revenue that names none: ISO 4217.
            timeout: In seconds, instead of the client's deadline.

        Raises:
            AlreadyExistsError: When the name is taken.
            OutcomeUnknownError: When the connection broke after the request was sent: it is never sent twice, for the
                first one's key would be lost.
        """
        request = wire.CreateRequest(name=name, primary_order=primary_order, default_currency=default_currency)
        answer = self._caller.call(wire.SourceService.Create, request, kind=Kind.ONCE, timeout=timeout)
        return SourceKey(Source.of(answer.source), answer.write_key)

    def list(self, *, timeout: float | None = None) -> Page[Source]:
        """All sources, by name."""
        answer = self._caller.call(wire.SourceService.List, wire.SourceServiceListRequest(), timeout=timeout)
        return Page([Source.of(source) for source in answer.sources])

    def disable(self, name: str, *, timeout: float | None = None) -> Source:
        """Refuses a source's keys from now on; what it sent stays.

        Raises:
            NotFoundError: When there is none of that name.
        """
        answer = self._caller.call(
            wire.SourceService.Disable, wire.DisableRequest(name=name), kind=Kind.REPEATABLE, timeout=timeout
        )
        return Source.of(answer.source)

    def rotate(self, name: str, *, timeout: float | None = None) -> SourceKey:
        """Gives a source a new write key; the old ones are refused from now on. Errors as of `create`."""
        answer = self._caller.call(
            wire.SourceService.Rotate, wire.RotateRequest(name=name), kind=Kind.ONCE, timeout=timeout
        )
        return SourceKey(Source.of(answer.source), answer.write_key)


def _number(enum: str, name: str | None) -> int:
    if name is None:
        return 0
    names = {word: number for number, word in wire.ENUMS[enum].items() if number}
    if name not in names:
        raise UsageError(f"{name!r} is none of {', '.join(names)}")
    return names[name]


def _text(schema: Mapping[str, Any] | bool | str) -> str:
    """A schema's text; text is taken as it is."""
    return schema if isinstance(schema, str) else json.dumps(schema)


class Schemas:
    """`hub.schemas`: what events say, and what becomes of those that say something else.

    A schema's name is a type of events (`identify`), or one and an event's name (`track:Order Completed`).
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def put(
        self,
        name: str,
        schema: Mapping[str, Any] | bool | str,
        *,
        policy: str | None = None,
        compatibility: str | None = None,
        based_on_version: int = 0,
        timeout: float | None = None,
    ) -> PutResult:
        """Puts a schema in force; the same again changes nothing.

        >>> order = {"required": ["revenue"], "properties": {"quantity": {"type": "integer", "minimum": 1}}}
        >>> hub.schemas.put("track:Order Completed", order)

        Args:
            name: See the class.
            schema: JSON Schema (draft 2020-12, or draft-07 if it says so).
            policy: What becomes of events that break it: `reject`, `quarantine` or `flag`; by default as now.
            compatibility: What it owes to the version in force: `backward`, `forward`, `full` or `none`.
            based_on_version: The version that this was made from; 0: whichever is in force.
            timeout: In seconds, instead of the client's deadline.

        Raises:
            InvalidSchemaError: With the places.
            IncompatibleSchemaError: With the places.
            ConflictError: When another version than `based_on_version` is in force.
        """
        request = wire.PutSchemaRequest(
            name=name,
            schema_json=_text(schema),
            policy=_number("SchemaPolicy", policy),
            compatibility=_number("SchemaCompatibility", compatibility),
            based_on_version=based_on_version,
        )
        answer = self._caller.call(wire.SchemaService.Put, request, kind=Kind.REPEATABLE, timeout=timeout)
        return PutResult(answer.schema.version, answer.changed, time_of(answer.schema, "created_at"))

    def get(self, name: str, version: int = 0, *, timeout: float | None = None) -> Schema:
        """One schema; version 0 is the one in force.

        Raises:
            NotFoundError: When there is none of that name and version.
        """
        request = wire.GetSchemaRequest(name=name, version=version)
        answer = self._caller.call(wire.SchemaService.Get, request, timeout=timeout)
        return Schema.of(answer.schema)

    def list(self, *, timeout: float | None = None) -> Page[Schema]:
        """All schemas in force, by type and name, without their text."""
        answer = self._caller.call(wire.SchemaService.List, wire.ListSchemasRequest(), timeout=timeout)
        return Page([Schema.of(schema) for schema in answer.schemas])

    def check(
        self,
        name: str,
        schema: Mapping[str, Any] | bool | str,
        *,
        compatibility: str | None = None,
        timeout: float | None = None,
    ) -> SchemaCheck:
        """Whether a schema could be put, and if not, why. Changes nothing."""
        request = wire.CheckSchemaRequest(
            name=name, schema_json=_text(schema), compatibility=_number("SchemaCompatibility", compatibility)
        )
        return SchemaCheck.of(self._caller.call(wire.SchemaService.Check, request, timeout=timeout))

    def rules(self, version: int = 0, *, timeout: float | None = None) -> Rules:
        """Rules for traits and unknown events; version 0 is the one in force."""
        request = wire.GetRulesRequest(version=version)
        answer = self._caller.call(wire.RulesService.GetTraitRules, request, timeout=timeout)
        return Rules.of(answer.rules)

    def put_rules(self, rules: Mapping[str, Any], *, timeout: float | None = None) -> PutResult:
        """Puts rules for traits in force; `version` in them, if any, is the one that they were made from.

        >>> hub.schemas.put_rules({"traits": {"phone": [{"rule": "phone", "region": "DE"}]}})

        Raises:
            InvalidRulesError: With the place that is wrong.
            ConflictError: When another version than `version` is in force.
        """
        request = wire.PutRulesRequest(rules_json=json.dumps(rules))
        answer = self._caller.call(
            wire.RulesService.PutTraitRules, request, kind=Kind.REPEATABLE, timeout=timeout
        )
        return PutResult(answer.rules.version, answer.changed, time_of(answer.rules, "created_at"))
