"""Sources, schemas and rules."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

from .. import _wire as wire
from .base import Record
from .profile import json_of, time_of


@dataclass(frozen=True)
class Source(Record):
    """A system that sends. `key_prefix` is how the key in force begins."""

    name: str
    disabled: bool
    created_at: datetime.datetime | None
    primary_order: tuple[str, ...]
    default_currency: str | None
    key_prefix: str | None

    @classmethod
    def of(cls, message: wire.Source) -> Source:
        """From an answer."""
        return cls(
            name=message.name,
            disabled=message.disabled,
            created_at=time_of(message, "created_at"),
            primary_order=tuple(message.primary_order),
            default_currency=message.default_currency or None,
            key_prefix=message.key_prefix or None,
        )


@dataclass(frozen=True)
class SourceKey(Record):
    """A source with its new write key, which the hub shows this once. The key is in no table and no `repr`."""

    source: Source
    write_key: str = field(repr=False)

    def _cells(self) -> dict[str, str]:
        return {**self.source._cells(), "write_key": "in the attribute write_key, this once"}


@dataclass(frozen=True)
class Schema(Record):
    """One version of a schema. `schema` is its text as Python's values; `None` in lists.

    `policy` says what becomes of events that break it: `reject`, `quarantine` or `flag`; `compatibility` what the next
    version owes to it: `backward`, `forward`, `full` or `none`.
    """

    name: str
    version: int
    policy: str
    compatibility: str
    created_at: datetime.datetime | None
    schema: Any | None

    @classmethod
    def of(cls, message: wire.Schema) -> Schema:
        """From an answer."""
        return cls(
            name=message.name,
            version=message.version,
            policy=wire.ENUMS["SchemaPolicy"].get(message.policy, "unknown"),
            compatibility=wire.ENUMS["SchemaCompatibility"].get(message.compatibility, "unknown"),
            created_at=time_of(message, "created_at"),
            schema=json_of(message.schema_json, "the schema") if message.schema_json else None,
        )


@dataclass(frozen=True)
class PutResult(Record):
    """What is in force now, and whether that is a new version."""

    version: int
    changed: bool
    created_at: datetime.datetime | None


@dataclass(frozen=True)
class SchemaProblem(Record):
    """Something that keeps a schema from being put: where, as a JSON pointer, and what."""

    at: str
    what: str


@dataclass(frozen=True)
class SchemaCheck(Record):
    """Whether a schema could be put; `version` is what it was compared with, 0: there is none in force."""

    valid: bool
    compatible: bool
    version: int
    compatibility: str
    problems: tuple[SchemaProblem, ...]

    @classmethod
    def of(cls, message: wire.CheckSchemaResponse) -> SchemaCheck:
        """From an answer."""
        return cls(
            valid=message.valid,
            compatible=message.compatible,
            version=message.version,
            compatibility=wire.ENUMS["SchemaCompatibility"].get(message.compatibility, "unknown"),
            problems=tuple(SchemaProblem(problem.at, problem.what) for problem in message.problems),
        )


@dataclass(frozen=True)
class Rules(Record):
    """One version of a document of rules. Version 0: nothing was ever put, and the defaults are in force."""

    version: int
    rules: dict[str, Any]
    created_at: datetime.datetime | None

    @classmethod
    def of(cls, message: wire.Rules) -> Rules:
        """From an answer."""
        return cls(
            version=message.version,
            rules=json_of(message.rules_json, "the rules"),
            created_at=time_of(message, "created_at"),
        )


@dataclass(frozen=True)
class ShardRules(Record):
    """How far identity rules have come in a shard."""

    shard: int
    version: int
    slots: int
    swept_slots: int
    done: bool


@dataclass(frozen=True)
class RulesStatus(Record):
    """How far identity rules have come.

    `done`, with no `messages_under_way`: who is one customer is as the rules say.
    """

    version: int
    done: bool
    messages_under_way: int
    shards: tuple[ShardRules, ...]

    @classmethod
    def of(cls, message: wire.GetIdentityRulesStatusResponse) -> RulesStatus:
        """From an answer."""
        return cls(
            version=message.version,
            done=message.done,
            messages_under_way=message.messages_under_way,
            shards=tuple(
                ShardRules(one.shard, one.version, one.slots, one.swept_slots, one.done) for one in message.shards
            ),
        )
