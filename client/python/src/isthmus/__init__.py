"""Python client of Isthmus, a distributed customer-data hub.

>>> import isthmus
>>> hub = isthmus.Client("127.0.0.1:7400")
>>> hub.ingest([isthmus.identify("42", {"email": "ada@example.org"})]).counts.accepted
1
>>> hub.profiles.get("email:ada@example.org").traits
{'email': 'ada@example.org'}

`isthmus.aio.Client` is the same, awaited. What every part promises is in its docstring: `help(hub.profiles)`.
"""

from . import aio
from ._sync import Answer, Client, IngestWriter, Pager, Watch
from .errors import *  # noqa: F403  all errors are the package's
from .errors import __all__ as _errors
from .events import AnyEvent, Event, Unreadable, alias, group, identify, page, screen, track
from .model.base import Page
from .model.change import Change
from .model.cluster import ClusterStatus, Node, Replica
from .model.group import Group, GroupMember, Membership
from .model.identity import (
    ChangedFact,
    Decision,
    Explanation,
    JudgedFact,
    MatchingStatus,
    Pair,
    PairWeight,
    ProfileChange,
    Retraction,
    Split,
)
from .model.ingest import Counts, Ingested, ItemResult
from .model.profile import Identifier, Key, Profile, TimelineEvent
from .model.quality import QualityReport, SourceQuality, TraitOverlap, TraitQuality
from .model.quarantine import QuarantineCounts, QuarantineEntry, QuarantineResult, Resolution
from .model.query import QueryColumn, QueryPlan, QueryTable
from .model.registry import (
    PutResult,
    Rules,
    RulesStatus,
    Schema,
    SchemaCheck,
    SchemaProblem,
    ShardRules,
    Source,
    SourceKey,
)
from .model.segment import (
    ComputedTrait,
    DefinitionResult,
    Definitions,
    ProfileSegments,
    Segment,
    SegmentCount,
    SegmentMember,
    SegmentPreview,
    SegmentVerification,
)

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AnyEvent",
    "Change",
    "ChangedFact",
    "Client",
    "ClusterStatus",
    "ComputedTrait",
    "Counts",
    "Decision",
    "DefinitionResult",
    "Definitions",
    "Event",
    "Explanation",
    "Group",
    "GroupMember",
    "Identifier",
    "IngestWriter",
    "Ingested",
    "ItemResult",
    "JudgedFact",
    "Key",
    "MatchingStatus",
    "Membership",
    "Node",
    "Page",
    "Pager",
    "Pair",
    "PairWeight",
    "Profile",
    "ProfileChange",
    "ProfileSegments",
    "PutResult",
    "QualityReport",
    "QuarantineCounts",
    "QuarantineEntry",
    "QuarantineResult",
    "QueryColumn",
    "QueryPlan",
    "QueryTable",
    "Replica",
    "Resolution",
    "Retraction",
    "Rules",
    "RulesStatus",
    "Schema",
    "SchemaCheck",
    "SchemaProblem",
    "Segment",
    "SegmentCount",
    "SegmentMember",
    "SegmentPreview",
    "SegmentVerification",
    "ShardRules",
    "Source",
    "SourceKey",
    "SourceQuality",
    "Split",
    "TimelineEvent",
    "TraitOverlap",
    "TraitQuality",
    "Unreadable",
    "Watch",
    "aio",
    "alias",
    "group",
    "identify",
    "page",
    "screen",
    "track",
    *_errors,
]
