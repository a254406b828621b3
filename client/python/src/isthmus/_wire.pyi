# Written by tools/generate.py: change what it is made of, and run it.
from collections.abc import Iterable, Mapping

from google.protobuf.internal.containers import MessageMap, ScalarMap
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer as Messages
from google.protobuf.internal.containers import RepeatedScalarFieldContainer as Scalars
from google.protobuf.message import Message

from ._method import Method

ENUMS: Mapping[str, Mapping[int, str]]

class Any(Message):
    type_url: str
    value: bytes
    def __init__(self, *, type_url: str | None = ..., value: bytes | None = ...) -> None: ...

class Duration(Message):
    seconds: int
    nanos: int
    def __init__(self, *, seconds: int | None = ..., nanos: int | None = ...) -> None: ...

class Status(Message):
    code: int
    message: str
    @property
    def details(self) -> Messages[Any]: ...
    def __init__(self, *, code: int | None = ..., message: str | None = ..., details: Iterable[Any] | None = ...) -> None: ...

class ErrorInfo(Message):
    reason: str
    domain: str
    @property
    def metadata(self) -> ScalarMap[str, str]: ...
    def __init__(self, *, reason: str | None = ..., domain: str | None = ..., metadata: Mapping[str, str] | None = ...) -> None: ...

class RetryInfo(Message):
    @property
    def retry_delay(self) -> Duration: ...
    def __init__(self, *, retry_delay: Duration | None = ...) -> None: ...

class BadRequest(Message):
    @property
    def field_violations(self) -> Messages[FieldViolation]: ...
    def __init__(self, *, field_violations: Iterable[FieldViolation] | None = ...) -> None: ...

class FieldViolation(Message):
    field: str
    description: str
    def __init__(self, *, field: str | None = ..., description: str | None = ...) -> None: ...

class FieldMask(Message):
    @property
    def paths(self) -> Scalars[str]: ...
    def __init__(self, *, paths: Iterable[str] | None = ...) -> None: ...

class Timestamp(Message):
    seconds: int
    nanos: int
    def __init__(self, *, seconds: int | None = ..., nanos: int | None = ...) -> None: ...

class StatusRequest(Message):
    def __init__(self) -> None: ...

class StatusResponse(Message):
    cluster_id: str
    healthy: bool
    @property
    def problems(self) -> Scalars[str]: ...
    nodes: int
    nodes_alive: int
    shards: int
    shards_with_leader: int
    replicas: int
    shard_map_version: int
    metadata_leader: int
    version: str
    def __init__(self, *, cluster_id: str | None = ..., healthy: bool | None = ..., problems: Iterable[str] | None = ..., nodes: int | None = ..., nodes_alive: int | None = ..., shards: int | None = ..., shards_with_leader: int | None = ..., replicas: int | None = ..., shard_map_version: int | None = ..., metadata_leader: int | None = ..., version: str | None = ...) -> None: ...

class NodesRequest(Message):
    def __init__(self) -> None: ...

class NodesResponse(Message):
    @property
    def nodes(self) -> Messages[Node]: ...
    def __init__(self, *, nodes: Iterable[Node] | None = ...) -> None: ...

class Node(Message):
    node_id: int
    state: int
    alive: bool
    grpc_address: str
    http_address: str
    peer_address: str
    replicas: int
    leaders: int
    version: str
    def __init__(self, *, node_id: int | None = ..., state: int | None = ..., alive: bool | None = ..., grpc_address: str | None = ..., http_address: str | None = ..., peer_address: str | None = ..., replicas: int | None = ..., leaders: int | None = ..., version: str | None = ...) -> None: ...

class ShardsRequest(Message):
    def __init__(self) -> None: ...

class ShardsResponse(Message):
    @property
    def replicas(self) -> Messages[Replica]: ...
    def __init__(self, *, replicas: Iterable[Replica] | None = ...) -> None: ...

class Replica(Message):
    shard: int
    node: int
    role: int
    term: int
    applied_index: int
    state_hash: str
    state_hash_index: int
    slots: str
    def __init__(self, *, shard: int | None = ..., node: int | None = ..., role: int | None = ..., term: int | None = ..., applied_index: int | None = ..., state_hash: str | None = ..., state_hash_index: int | None = ..., slots: str | None = ...) -> None: ...

class TransferRequest(Message):
    shard: int
    to_node: int
    def __init__(self, *, shard: int | None = ..., to_node: int | None = ...) -> None: ...

class TransferResponse(Message):
    leader: int
    def __init__(self, *, leader: int | None = ...) -> None: ...

class RemoveRequest(Message):
    node_id: int
    def __init__(self, *, node_id: int | None = ...) -> None: ...

class RemoveResponse(Message):
    replicas_left: int
    def __init__(self, *, replicas_left: int | None = ...) -> None: ...

class Identifier(Message):
    namespace: str
    value: str
    def __init__(self, *, namespace: str | None = ..., value: str | None = ...) -> None: ...

class ReportRequest(Message):
    source: str
    @property
    def updated_within(self) -> Duration: ...
    def __init__(self, *, source: str | None = ..., updated_within: Duration | None = ...) -> None: ...

class ReportResponse(Message):
    @property
    def updated_since(self) -> Timestamp: ...
    @property
    def sources(self) -> Messages[SourceQuality]: ...
    @property
    def traits(self) -> Messages[TraitQuality]: ...
    @property
    def overlaps(self) -> Messages[TraitOverlap]: ...
    cut: bool
    def __init__(self, *, updated_since: Timestamp | None = ..., sources: Iterable[SourceQuality] | None = ..., traits: Iterable[TraitQuality] | None = ..., overlaps: Iterable[TraitOverlap] | None = ..., cut: bool | None = ...) -> None: ...

class SourceQuality(Message):
    source: str
    customers: int
    events: int
    def __init__(self, *, source: str | None = ..., customers: int | None = ..., events: int | None = ...) -> None: ...

class TraitQuality(Message):
    source: str
    trait: str
    values: int
    completeness: float
    checked: int
    valid: int
    validity: float
    distinct: int
    distinct_exact: bool
    uniqueness: float
    shared: int
    agreeing: int
    consistency: float
    updated: int
    timeliness: float
    events: int
    @property
    def lag_p50(self) -> Duration: ...
    @property
    def lag_p95(self) -> Duration: ...
    @property
    def lag_p99(self) -> Duration: ...
    def __init__(self, *, source: str | None = ..., trait: str | None = ..., values: int | None = ..., completeness: float | None = ..., checked: int | None = ..., valid: int | None = ..., validity: float | None = ..., distinct: int | None = ..., distinct_exact: bool | None = ..., uniqueness: float | None = ..., shared: int | None = ..., agreeing: int | None = ..., consistency: float | None = ..., updated: int | None = ..., timeliness: float | None = ..., events: int | None = ..., lag_p50: Duration | None = ..., lag_p95: Duration | None = ..., lag_p99: Duration | None = ...) -> None: ...

class TraitOverlap(Message):
    trait: str
    shared: int
    agreeing: int
    consistency: float
    def __init__(self, *, trait: str | None = ..., shared: int | None = ..., agreeing: int | None = ..., consistency: float | None = ...) -> None: ...

class QuarantineEntry(Message):
    id: str
    reason: str
    message: str
    source: str
    origin: str
    @property
    def received_at(self) -> Timestamp: ...
    message_id: str
    content_type: str
    content: bytes
    field: str
    @property
    def resolution(self) -> QuarantineResolution: ...
    def __init__(self, *, id: str | None = ..., reason: str | None = ..., message: str | None = ..., source: str | None = ..., origin: str | None = ..., received_at: Timestamp | None = ..., message_id: str | None = ..., content_type: str | None = ..., content: bytes | None = ..., field: str | None = ..., resolution: QuarantineResolution | None = ...) -> None: ...

class QuarantineResolution(Message):
    kind: int
    by: str
    @property
    def resolved_at(self) -> Timestamp: ...
    message_id: str
    note: str
    def __init__(self, *, kind: int | None = ..., by: str | None = ..., resolved_at: Timestamp | None = ..., message_id: str | None = ..., note: str | None = ...) -> None: ...

class QuarantineServiceListRequest(Message):
    limit: int
    cursor: str
    source: str
    reason: str
    all: bool
    def __init__(self, *, limit: int | None = ..., cursor: str | None = ..., source: str | None = ..., reason: str | None = ..., all: bool | None = ...) -> None: ...

class QuarantineServiceListResponse(Message):
    @property
    def entries(self) -> Messages[QuarantineEntry]: ...
    next_cursor: str
    def __init__(self, *, entries: Iterable[QuarantineEntry] | None = ..., next_cursor: str | None = ...) -> None: ...

class ShowRequest(Message):
    id: str
    def __init__(self, *, id: str | None = ...) -> None: ...

class ShowResponse(Message):
    @property
    def entry(self) -> QuarantineEntry: ...
    def __init__(self, *, entry: QuarantineEntry | None = ...) -> None: ...

class CountsRequest(Message):
    def __init__(self) -> None: ...

class CountsResponse(Message):
    @property
    def counts(self) -> Messages[QuarantineCounts]: ...
    def __init__(self, *, counts: Iterable[QuarantineCounts] | None = ...) -> None: ...

class QuarantineCounts(Message):
    source: str
    reason: str
    open: int
    resolved: int
    def __init__(self, *, source: str | None = ..., reason: str | None = ..., open: int | None = ..., resolved: int | None = ...) -> None: ...

class MendRequest(Message):
    id: str
    patch: str
    replacement: bytes
    by: str
    def __init__(self, *, id: str | None = ..., patch: str | None = ..., replacement: bytes | None = ..., by: str | None = ...) -> None: ...

class MendResponse(Message):
    @property
    def result(self) -> QuarantineResult: ...
    def __init__(self, *, result: QuarantineResult | None = ...) -> None: ...

class QuarantineResult(Message):
    id: str
    outcome: int
    reason: str
    field: str
    message: str
    @property
    def resolution(self) -> QuarantineResolution: ...
    def __init__(self, *, id: str | None = ..., outcome: int | None = ..., reason: str | None = ..., field: str | None = ..., message: str | None = ..., resolution: QuarantineResolution | None = ...) -> None: ...

class ReplayRequest(Message):
    @property
    def ids(self) -> Scalars[str]: ...
    source: str
    reason: str
    limit: int
    cursor: str
    by: str
    def __init__(self, *, ids: Iterable[str] | None = ..., source: str | None = ..., reason: str | None = ..., limit: int | None = ..., cursor: str | None = ..., by: str | None = ...) -> None: ...

class ReplayResponse(Message):
    @property
    def results(self) -> Messages[QuarantineResult]: ...
    next_cursor: str
    def __init__(self, *, results: Iterable[QuarantineResult] | None = ..., next_cursor: str | None = ...) -> None: ...

class DropRequest(Message):
    @property
    def ids(self) -> Scalars[str]: ...
    reason: str
    by: str
    def __init__(self, *, ids: Iterable[str] | None = ..., reason: str | None = ..., by: str | None = ...) -> None: ...

class DropResponse(Message):
    @property
    def results(self) -> Messages[QuarantineResult]: ...
    def __init__(self, *, results: Iterable[QuarantineResult] | None = ...) -> None: ...

class Rules(Message):
    version: int
    rules_json: str
    @property
    def created_at(self) -> Timestamp: ...
    def __init__(self, *, version: int | None = ..., rules_json: str | None = ..., created_at: Timestamp | None = ...) -> None: ...

class GetRulesRequest(Message):
    version: int
    def __init__(self, *, version: int | None = ...) -> None: ...

class GetRulesResponse(Message):
    @property
    def rules(self) -> Rules: ...
    def __init__(self, *, rules: Rules | None = ...) -> None: ...

class PutRulesRequest(Message):
    rules_json: str
    def __init__(self, *, rules_json: str | None = ...) -> None: ...

class PutRulesResponse(Message):
    @property
    def rules(self) -> Rules: ...
    changed: bool
    def __init__(self, *, rules: Rules | None = ..., changed: bool | None = ...) -> None: ...

class GetIdentityRulesStatusRequest(Message):
    def __init__(self) -> None: ...

class GetIdentityRulesStatusResponse(Message):
    version: int
    done: bool
    messages_under_way: int
    @property
    def shards(self) -> Messages[ShardRules]: ...
    def __init__(self, *, version: int | None = ..., done: bool | None = ..., messages_under_way: int | None = ..., shards: Iterable[ShardRules] | None = ...) -> None: ...

class ShardRules(Message):
    shard: int
    version: int
    slots: int
    swept_slots: int
    done: bool
    def __init__(self, *, shard: int | None = ..., version: int | None = ..., slots: int | None = ..., swept_slots: int | None = ..., done: bool | None = ...) -> None: ...

class Schema(Message):
    name: str
    version: int
    schema_json: str
    policy: int
    compatibility: int
    @property
    def created_at(self) -> Timestamp: ...
    def __init__(self, *, name: str | None = ..., version: int | None = ..., schema_json: str | None = ..., policy: int | None = ..., compatibility: int | None = ..., created_at: Timestamp | None = ...) -> None: ...

class SchemaProblem(Message):
    at: str
    what: str
    def __init__(self, *, at: str | None = ..., what: str | None = ...) -> None: ...

class PutSchemaRequest(Message):
    name: str
    schema_json: str
    policy: int
    compatibility: int
    based_on_version: int
    def __init__(self, *, name: str | None = ..., schema_json: str | None = ..., policy: int | None = ..., compatibility: int | None = ..., based_on_version: int | None = ...) -> None: ...

class PutSchemaResponse(Message):
    @property
    def schema(self) -> Schema: ...
    changed: bool
    def __init__(self, *, schema: Schema | None = ..., changed: bool | None = ...) -> None: ...

class GetSchemaRequest(Message):
    name: str
    version: int
    def __init__(self, *, name: str | None = ..., version: int | None = ...) -> None: ...

class GetSchemaResponse(Message):
    @property
    def schema(self) -> Schema: ...
    def __init__(self, *, schema: Schema | None = ...) -> None: ...

class ListSchemasRequest(Message):
    def __init__(self) -> None: ...

class ListSchemasResponse(Message):
    @property
    def schemas(self) -> Messages[Schema]: ...
    def __init__(self, *, schemas: Iterable[Schema] | None = ...) -> None: ...

class CheckSchemaRequest(Message):
    name: str
    schema_json: str
    compatibility: int
    def __init__(self, *, name: str | None = ..., schema_json: str | None = ..., compatibility: int | None = ...) -> None: ...

class CheckSchemaResponse(Message):
    valid: bool
    compatible: bool
    version: int
    compatibility: int
    @property
    def problems(self) -> Messages[SchemaProblem]: ...
    def __init__(self, *, valid: bool | None = ..., compatible: bool | None = ..., version: int | None = ..., compatibility: int | None = ..., problems: Iterable[SchemaProblem] | None = ...) -> None: ...

class Source(Message):
    name: str
    disabled: bool
    @property
    def created_at(self) -> Timestamp: ...
    @property
    def primary_order(self) -> Scalars[str]: ...
    default_currency: str
    key_prefix: str
    def __init__(self, *, name: str | None = ..., disabled: bool | None = ..., created_at: Timestamp | None = ..., primary_order: Iterable[str] | None = ..., default_currency: str | None = ..., key_prefix: str | None = ...) -> None: ...

class CreateRequest(Message):
    name: str
    @property
    def primary_order(self) -> Scalars[str]: ...
    default_currency: str
    def __init__(self, *, name: str | None = ..., primary_order: Iterable[str] | None = ..., default_currency: str | None = ...) -> None: ...

class CreateResponse(Message):
    @property
    def source(self) -> Source: ...
    write_key: str
    def __init__(self, *, source: Source | None = ..., write_key: str | None = ...) -> None: ...

class SourceServiceListRequest(Message):
    def __init__(self) -> None: ...

class SourceServiceListResponse(Message):
    @property
    def sources(self) -> Messages[Source]: ...
    def __init__(self, *, sources: Iterable[Source] | None = ...) -> None: ...

class DisableRequest(Message):
    name: str
    def __init__(self, *, name: str | None = ...) -> None: ...

class DisableResponse(Message):
    @property
    def source(self) -> Source: ...
    def __init__(self, *, source: Source | None = ...) -> None: ...

class RotateRequest(Message):
    name: str
    def __init__(self, *, name: str | None = ...) -> None: ...

class RotateResponse(Message):
    @property
    def source(self) -> Source: ...
    write_key: str
    def __init__(self, *, source: Source | None = ..., write_key: str | None = ...) -> None: ...

class Value(Message):
    @property
    def null_value(self) -> Null: ...
    bool_value: bool
    int_value: int
    uint_value: int
    double_value: float
    string_value: str
    @property
    def timestamp_value(self) -> Timestamp: ...
    @property
    def list_value(self) -> ListValue: ...
    @property
    def map_value(self) -> MapValue: ...
    def __init__(self, *, null_value: Null | None = ..., bool_value: bool | None = ..., int_value: int | None = ..., uint_value: int | None = ..., double_value: float | None = ..., string_value: str | None = ..., timestamp_value: Timestamp | None = ..., list_value: ListValue | None = ..., map_value: MapValue | None = ...) -> None: ...

class Null(Message):
    def __init__(self) -> None: ...

class ListValue(Message):
    @property
    def values(self) -> Messages[Value]: ...
    def __init__(self, *, values: Iterable[Value] | None = ...) -> None: ...

class MapValue(Message):
    @property
    def fields(self) -> MessageMap[str, Value]: ...
    def __init__(self, *, fields: Mapping[str, Value] | None = ...) -> None: ...

class IngestRequest(Message):
    write_key: str
    source: str
    @property
    def items(self) -> Messages[IngestItem]: ...
    @property
    def sent_at(self) -> Timestamp: ...
    def __init__(self, *, write_key: str | None = ..., source: str | None = ..., items: Iterable[IngestItem] | None = ..., sent_at: Timestamp | None = ...) -> None: ...

class IngestStreamRequest(Message):
    @property
    def open(self) -> IngestStreamOpen: ...
    @property
    def items(self) -> IngestStreamItems: ...
    def __init__(self, *, open: IngestStreamOpen | None = ..., items: IngestStreamItems | None = ...) -> None: ...

class IngestStreamOpen(Message):
    write_key: str
    source: str
    stream_id: str
    first_sequence: int
    @property
    def received_until(self) -> Timestamp: ...
    def __init__(self, *, write_key: str | None = ..., source: str | None = ..., stream_id: str | None = ..., first_sequence: int | None = ..., received_until: Timestamp | None = ...) -> None: ...

class IngestStreamItems(Message):
    first_sequence: int
    @property
    def items(self) -> Messages[IngestItem]: ...
    @property
    def sent_at(self) -> Timestamp: ...
    def __init__(self, *, first_sequence: int | None = ..., items: Iterable[IngestItem] | None = ..., sent_at: Timestamp | None = ...) -> None: ...

class IngestStreamResponse(Message):
    acknowledged: int
    @property
    def results(self) -> Messages[ItemResult]: ...
    sequence_max: int
    bytes_max: int
    item_bytes_max: int
    version: str
    @property
    def received_until(self) -> Timestamp: ...
    def __init__(self, *, acknowledged: int | None = ..., results: Iterable[ItemResult] | None = ..., sequence_max: int | None = ..., bytes_max: int | None = ..., item_bytes_max: int | None = ..., version: str | None = ..., received_until: Timestamp | None = ...) -> None: ...

class IngestItem(Message):
    @property
    def event(self) -> Event: ...
    json: bytes
    @property
    def unreadable(self) -> UnreadableItem: ...
    origin: str
    def __init__(self, *, event: Event | None = ..., json: bytes | None = ..., unreadable: UnreadableItem | None = ..., origin: str | None = ...) -> None: ...

class UnreadableItem(Message):
    content: bytes
    content_type: str
    problem: str
    def __init__(self, *, content: bytes | None = ..., content_type: str | None = ..., problem: str | None = ...) -> None: ...

class Event(Message):
    type: int
    message_id: str
    user_id: str
    anonymous_id: str
    @property
    def identifiers(self) -> Messages[Identifier]: ...
    previous_id: str
    group_id: str
    name: str
    category: str
    @property
    def properties(self) -> MessageMap[str, Value]: ...
    @property
    def traits(self) -> MessageMap[str, Value]: ...
    @property
    def context(self) -> MessageMap[str, Value]: ...
    @property
    def timestamp(self) -> Timestamp: ...
    @property
    def original_timestamp(self) -> Timestamp: ...
    @property
    def sent_at(self) -> Timestamp: ...
    def __init__(self, *, type: int | None = ..., message_id: str | None = ..., user_id: str | None = ..., anonymous_id: str | None = ..., identifiers: Iterable[Identifier] | None = ..., previous_id: str | None = ..., group_id: str | None = ..., name: str | None = ..., category: str | None = ..., properties: Mapping[str, Value] | None = ..., traits: Mapping[str, Value] | None = ..., context: Mapping[str, Value] | None = ..., timestamp: Timestamp | None = ..., original_timestamp: Timestamp | None = ..., sent_at: Timestamp | None = ...) -> None: ...

class IngestResponse(Message):
    @property
    def results(self) -> Messages[ItemResult]: ...
    version: str
    def __init__(self, *, results: Iterable[ItemResult] | None = ..., version: str | None = ...) -> None: ...

class ItemResult(Message):
    outcome: int
    reason: str
    message: str
    message_id: str
    retryable: bool
    def __init__(self, *, outcome: int | None = ..., reason: str | None = ..., message: str | None = ..., message_id: str | None = ..., retryable: bool | None = ...) -> None: ...

class WatchRequest(Message):
    cursor: str
    start: int
    @property
    def filter(self) -> WatchFilter: ...
    response_changes_max: int
    def __init__(self, *, cursor: str | None = ..., start: int | None = ..., filter: WatchFilter | None = ..., response_changes_max: int | None = ...) -> None: ...

class WatchFilter(Message):
    @property
    def events(self) -> Scalars[str]: ...
    @property
    def types(self) -> Scalars[int]: ...
    @property
    def traits(self) -> Scalars[str]: ...
    members: bool
    @property
    def identifiers(self) -> Messages[Identifier]: ...
    @property
    def profile_ids(self) -> Scalars[str]: ...
    @property
    def segments(self) -> Scalars[str]: ...
    def __init__(self, *, events: Iterable[str] | None = ..., types: Iterable[int] | None = ..., traits: Iterable[str] | None = ..., members: bool | None = ..., identifiers: Iterable[Identifier] | None = ..., profile_ids: Iterable[str] | None = ..., segments: Iterable[str] | None = ...) -> None: ...

class WatchResponse(Message):
    @property
    def changes(self) -> Messages[Change]: ...
    cursor: str
    def __init__(self, *, changes: Iterable[Change] | None = ..., cursor: str | None = ...) -> None: ...

class Change(Message):
    id: str
    @property
    def at(self) -> Timestamp: ...
    version: str
    profile_id: str
    @property
    def identifier(self) -> Identifier: ...
    @property
    def event(self) -> EventChange: ...
    @property
    def members(self) -> MembersChange: ...
    @property
    def segment(self) -> SegmentChange: ...
    def __init__(self, *, id: str | None = ..., at: Timestamp | None = ..., version: str | None = ..., profile_id: str | None = ..., identifier: Identifier | None = ..., event: EventChange | None = ..., members: MembersChange | None = ..., segment: SegmentChange | None = ...) -> None: ...

class EventChange(Message):
    type: int
    message_id: str
    source: str
    name: str
    @property
    def timestamp(self) -> Timestamp: ...
    @property
    def traits(self) -> Scalars[str]: ...
    properties_json: str
    context_json: str
    def __init__(self, *, type: int | None = ..., message_id: str | None = ..., source: str | None = ..., name: str | None = ..., timestamp: Timestamp | None = ..., traits: Iterable[str] | None = ..., properties_json: str | None = ..., context_json: str | None = ...) -> None: ...

class MembersChange(Message):
    @property
    def came(self) -> Messages[Identifier]: ...
    @property
    def left(self) -> Messages[Identifier]: ...
    came_count: int
    left_count: int
    def __init__(self, *, came: Iterable[Identifier] | None = ..., left: Iterable[Identifier] | None = ..., came_count: int | None = ..., left_count: int | None = ...) -> None: ...

class SegmentChange(Message):
    name: str
    segment_version: int
    before: int
    now: int
    cause: str
    def __init__(self, *, name: str | None = ..., segment_version: int | None = ..., before: int | None = ..., now: int | None = ..., cause: str | None = ...) -> None: ...

class ProfileKey(Message):
    @property
    def identifier(self) -> Identifier: ...
    profile_id: str
    def __init__(self, *, identifier: Identifier | None = ..., profile_id: str | None = ...) -> None: ...

class Consistency(Message):
    @property
    def linearizable(self) -> Linearizable: ...
    min_version: str
    max_staleness_ms: int
    def __init__(self, *, linearizable: Linearizable | None = ..., min_version: str | None = ..., max_staleness_ms: int | None = ...) -> None: ...

class Linearizable(Message):
    def __init__(self) -> None: ...

class GetRequest(Message):
    @property
    def key(self) -> ProfileKey: ...
    @property
    def consistency(self) -> Consistency: ...
    @property
    def fields(self) -> FieldMask: ...
    def __init__(self, *, key: ProfileKey | None = ..., consistency: Consistency | None = ..., fields: FieldMask | None = ...) -> None: ...

class GetResponse(Message):
    @property
    def profile(self) -> Profile: ...
    def __init__(self, *, profile: Profile | None = ...) -> None: ...

class BatchGetRequest(Message):
    @property
    def keys(self) -> Messages[ProfileKey]: ...
    @property
    def consistency(self) -> Consistency: ...
    @property
    def fields(self) -> FieldMask: ...
    def __init__(self, *, keys: Iterable[ProfileKey] | None = ..., consistency: Consistency | None = ..., fields: FieldMask | None = ...) -> None: ...

class BatchGetResponse(Message):
    @property
    def entries(self) -> Messages[BatchGetEntry]: ...
    def __init__(self, *, entries: Iterable[BatchGetEntry] | None = ...) -> None: ...

class BatchGetEntry(Message):
    @property
    def profile(self) -> Profile: ...
    def __init__(self, *, profile: Profile | None = ...) -> None: ...

class ProfileServiceListRequest(Message):
    limit: int
    cursor: str
    @property
    def consistency(self) -> Consistency: ...
    @property
    def fields(self) -> FieldMask: ...
    def __init__(self, *, limit: int | None = ..., cursor: str | None = ..., consistency: Consistency | None = ..., fields: FieldMask | None = ...) -> None: ...

class ProfileServiceListResponse(Message):
    @property
    def profiles(self) -> Messages[Profile]: ...
    next_cursor: str
    def __init__(self, *, profiles: Iterable[Profile] | None = ..., next_cursor: str | None = ...) -> None: ...

class TimelineRequest(Message):
    @property
    def key(self) -> ProfileKey: ...
    limit: int
    cursor: str
    @property
    def consistency(self) -> Consistency: ...
    def __init__(self, *, key: ProfileKey | None = ..., limit: int | None = ..., cursor: str | None = ..., consistency: Consistency | None = ...) -> None: ...

class TimelineResponse(Message):
    @property
    def events(self) -> Messages[TimelineEvent]: ...
    next_cursor: str
    def __init__(self, *, events: Iterable[TimelineEvent] | None = ..., next_cursor: str | None = ...) -> None: ...

class TimelineEvent(Message):
    type: int
    message_id: str
    source: str
    name: str
    @property
    def timestamp(self) -> Timestamp: ...
    @property
    def received_at(self) -> Timestamp: ...
    @property
    def primary(self) -> Identifier: ...
    properties_json: str
    context_json: str
    @property
    def notes(self) -> Scalars[str]: ...
    def __init__(self, *, type: int | None = ..., message_id: str | None = ..., source: str | None = ..., name: str | None = ..., timestamp: Timestamp | None = ..., received_at: Timestamp | None = ..., primary: Identifier | None = ..., properties_json: str | None = ..., context_json: str | None = ..., notes: Iterable[str] | None = ...) -> None: ...

class Profile(Message):
    profile_id: str
    @property
    def identifiers(self) -> Messages[Identifier]: ...
    @property
    def traits(self) -> MessageMap[str, Value]: ...
    @property
    def event_counts(self) -> ScalarMap[str, int]: ...
    revenue: str
    @property
    def revenue_by_currency(self) -> ScalarMap[str, str]: ...
    @property
    def first_seen(self) -> Timestamp: ...
    @property
    def last_seen(self) -> Timestamp: ...
    @property
    def sources(self) -> Scalars[str]: ...
    version: str
    @property
    def type_counts(self) -> ScalarMap[str, int]: ...
    rules_version: int
    @property
    def segments(self) -> ProfileSegments: ...
    def __init__(self, *, profile_id: str | None = ..., identifiers: Iterable[Identifier] | None = ..., traits: Mapping[str, Value] | None = ..., event_counts: Mapping[str, int] | None = ..., revenue: str | None = ..., revenue_by_currency: Mapping[str, str] | None = ..., first_seen: Timestamp | None = ..., last_seen: Timestamp | None = ..., sources: Iterable[str] | None = ..., version: str | None = ..., type_counts: Mapping[str, int] | None = ..., rules_version: int | None = ..., segments: ProfileSegments | None = ...) -> None: ...

class ProfileSegments(Message):
    @property
    def segments(self) -> Scalars[str]: ...
    @property
    def overflows(self) -> Scalars[str]: ...
    @property
    def computed_traits_json(self) -> ScalarMap[str, str]: ...
    version: str
    definitions_version: int
    def __init__(self, *, segments: Iterable[str] | None = ..., overflows: Iterable[str] | None = ..., computed_traits_json: Mapping[str, str] | None = ..., version: str | None = ..., definitions_version: int | None = ...) -> None: ...

class ExplainRequest(Message):
    @property
    def key(self) -> ProfileKey: ...
    @property
    def other(self) -> ProfileKey: ...
    def __init__(self, *, key: ProfileKey | None = ..., other: ProfileKey | None = ...) -> None: ...

class ExplainResponse(Message):
    together: bool
    @property
    def chain(self) -> Messages[JudgedFact]: ...
    @property
    def facts(self) -> Messages[JudgedFact]: ...
    @property
    def history(self) -> Messages[ProfileChange]: ...
    @property
    def retractions(self) -> Messages[Retraction]: ...
    rules_version: int
    def __init__(self, *, together: bool | None = ..., chain: Iterable[JudgedFact] | None = ..., facts: Iterable[JudgedFact] | None = ..., history: Iterable[ProfileChange] | None = ..., retractions: Iterable[Retraction] | None = ..., rules_version: int | None = ...) -> None: ...

class JudgedFact(Message):
    @property
    def fact(self) -> LinkFact: ...
    verdict: str
    namespace: str
    def __init__(self, *, fact: LinkFact | None = ..., verdict: str | None = ..., namespace: str | None = ...) -> None: ...

class LinkFact(Message):
    @property
    def a(self) -> Identifier: ...
    @property
    def b(self) -> Identifier: ...
    @property
    def timestamp(self) -> Timestamp: ...
    source: str
    message_id: str
    alias: bool
    def __init__(self, *, a: Identifier | None = ..., b: Identifier | None = ..., timestamp: Timestamp | None = ..., source: str | None = ..., message_id: str | None = ..., alias: bool | None = ...) -> None: ...

class ProfileChange(Message):
    @property
    def at(self) -> Timestamp: ...
    @property
    def came(self) -> Messages[Identifier]: ...
    @property
    def left(self) -> Messages[Identifier]: ...
    rules_version: int
    def __init__(self, *, at: Timestamp | None = ..., came: Iterable[Identifier] | None = ..., left: Iterable[Identifier] | None = ..., rules_version: int | None = ...) -> None: ...

class Retraction(Message):
    id: str
    @property
    def scope(self) -> SplitScope: ...
    @property
    def until(self) -> Timestamp: ...
    @property
    def given_at(self) -> Timestamp: ...
    by: str
    reason: str
    def __init__(self, *, id: str | None = ..., scope: SplitScope | None = ..., until: Timestamp | None = ..., given_at: Timestamp | None = ..., by: str | None = ..., reason: str | None = ...) -> None: ...

class SplitScope(Message):
    @property
    def fact(self) -> SplitFact: ...
    @property
    def pair(self) -> SplitPair: ...
    @property
    def identifier(self) -> Identifier: ...
    source: str
    def __init__(self, *, fact: SplitFact | None = ..., pair: SplitPair | None = ..., identifier: Identifier | None = ..., source: str | None = ...) -> None: ...

class SplitFact(Message):
    @property
    def a(self) -> Identifier: ...
    @property
    def b(self) -> Identifier: ...
    source: str
    message_id: str
    def __init__(self, *, a: Identifier | None = ..., b: Identifier | None = ..., source: str | None = ..., message_id: str | None = ...) -> None: ...

class SplitPair(Message):
    @property
    def a(self) -> Identifier: ...
    @property
    def b(self) -> Identifier: ...
    def __init__(self, *, a: Identifier | None = ..., b: Identifier | None = ...) -> None: ...

class SplitRequest(Message):
    @property
    def scope(self) -> SplitScope: ...
    @property
    def until(self) -> Timestamp: ...
    never: bool
    reason: str
    by: str
    preview: bool
    id: str
    def __init__(self, *, scope: SplitScope | None = ..., until: Timestamp | None = ..., never: bool | None = ..., reason: str | None = ..., by: str | None = ..., preview: bool | None = ..., id: str | None = ...) -> None: ...

class SplitResponse(Message):
    id: str
    @property
    def before(self) -> Messages[IdentifierGroup]: ...
    @property
    def after(self) -> Messages[IdentifierGroup]: ...
    @property
    def facts(self) -> Messages[ChangedFact]: ...
    def __init__(self, *, id: str | None = ..., before: Iterable[IdentifierGroup] | None = ..., after: Iterable[IdentifierGroup] | None = ..., facts: Iterable[ChangedFact] | None = ...) -> None: ...

class IdentifierGroup(Message):
    @property
    def identifiers(self) -> Messages[Identifier]: ...
    def __init__(self, *, identifiers: Iterable[Identifier] | None = ...) -> None: ...

class ChangedFact(Message):
    @property
    def now(self) -> JudgedFact: ...
    @property
    def then(self) -> JudgedFact: ...
    def __init__(self, *, now: JudgedFact | None = ..., then: JudgedFact | None = ...) -> None: ...

class Group(Message):
    group_id: str
    @property
    def traits(self) -> MessageMap[str, Value]: ...
    member_identifiers: int
    events: int
    @property
    def first_seen(self) -> Timestamp: ...
    @property
    def last_seen(self) -> Timestamp: ...
    @property
    def sources(self) -> Scalars[str]: ...
    version: str
    def __init__(self, *, group_id: str | None = ..., traits: Mapping[str, Value] | None = ..., member_identifiers: int | None = ..., events: int | None = ..., first_seen: Timestamp | None = ..., last_seen: Timestamp | None = ..., sources: Iterable[str] | None = ..., version: str | None = ...) -> None: ...

class GroupMember(Message):
    profile_id: str
    @property
    def identifiers(self) -> Messages[Identifier]: ...
    @property
    def first_seen(self) -> Timestamp: ...
    @property
    def last_seen(self) -> Timestamp: ...
    events: int
    def __init__(self, *, profile_id: str | None = ..., identifiers: Iterable[Identifier] | None = ..., first_seen: Timestamp | None = ..., last_seen: Timestamp | None = ..., events: int | None = ...) -> None: ...

class Membership(Message):
    group_id: str
    @property
    def first_seen(self) -> Timestamp: ...
    @property
    def last_seen(self) -> Timestamp: ...
    events: int
    def __init__(self, *, group_id: str | None = ..., first_seen: Timestamp | None = ..., last_seen: Timestamp | None = ..., events: int | None = ...) -> None: ...

class GroupServiceGetRequest(Message):
    group_id: str
    @property
    def consistency(self) -> Consistency: ...
    def __init__(self, *, group_id: str | None = ..., consistency: Consistency | None = ...) -> None: ...

class GroupServiceGetResponse(Message):
    @property
    def group(self) -> Group: ...
    def __init__(self, *, group: Group | None = ...) -> None: ...

class GroupServiceListRequest(Message):
    limit: int
    cursor: str
    @property
    def consistency(self) -> Consistency: ...
    def __init__(self, *, limit: int | None = ..., cursor: str | None = ..., consistency: Consistency | None = ...) -> None: ...

class GroupServiceListResponse(Message):
    @property
    def groups(self) -> Messages[Group]: ...
    next_cursor: str
    def __init__(self, *, groups: Iterable[Group] | None = ..., next_cursor: str | None = ...) -> None: ...

class ListMembersRequest(Message):
    group_id: str
    limit: int
    cursor: str
    @property
    def consistency(self) -> Consistency: ...
    def __init__(self, *, group_id: str | None = ..., limit: int | None = ..., cursor: str | None = ..., consistency: Consistency | None = ...) -> None: ...

class ListMembersResponse(Message):
    @property
    def members(self) -> Messages[GroupMember]: ...
    next_cursor: str
    def __init__(self, *, members: Iterable[GroupMember] | None = ..., next_cursor: str | None = ...) -> None: ...

class ListMembershipsRequest(Message):
    @property
    def key(self) -> ProfileKey: ...
    limit: int
    cursor: str
    @property
    def consistency(self) -> Consistency: ...
    def __init__(self, *, key: ProfileKey | None = ..., limit: int | None = ..., cursor: str | None = ..., consistency: Consistency | None = ...) -> None: ...

class ListMembershipsResponse(Message):
    @property
    def memberships(self) -> Messages[Membership]: ...
    next_cursor: str
    def __init__(self, *, memberships: Iterable[Membership] | None = ..., next_cursor: str | None = ...) -> None: ...

class Pair(Message):
    @property
    def a(self) -> Messages[Identifier]: ...
    @property
    def b(self) -> Messages[Identifier]: ...
    score: float
    @property
    def weights(self) -> Messages[PairWeight]: ...
    decision: int
    decided_by: str
    note: str
    @property
    def found_at(self) -> Timestamp: ...
    @property
    def decided_at(self) -> Timestamp: ...
    model_version: int
    def __init__(self, *, a: Iterable[Identifier] | None = ..., b: Iterable[Identifier] | None = ..., score: float | None = ..., weights: Iterable[PairWeight] | None = ..., decision: int | None = ..., decided_by: str | None = ..., note: str | None = ..., found_at: Timestamp | None = ..., decided_at: Timestamp | None = ..., model_version: int | None = ...) -> None: ...

class PairWeight(Message):
    trait: str
    level: str
    bits: float
    def __init__(self, *, trait: str | None = ..., level: str | None = ..., bits: float | None = ...) -> None: ...

class MatchingStatus(Message):
    model_version: int
    learned_from: int
    config_json: str
    profiles: int
    complete: bool
    pending: int
    longest_ms: float
    stale: bool
    def __init__(self, *, model_version: int | None = ..., learned_from: int | None = ..., config_json: str | None = ..., profiles: int | None = ..., complete: bool | None = ..., pending: int | None = ..., longest_ms: float | None = ..., stale: bool | None = ...) -> None: ...

class MatchRequest(Message):
    config_json: str
    def __init__(self, *, config_json: str | None = ...) -> None: ...

class MatchResponse(Message):
    @property
    def status(self) -> MatchingStatus: ...
    def __init__(self, *, status: MatchingStatus | None = ...) -> None: ...

class MatchingServiceGetStatusRequest(Message):
    wait: bool
    def __init__(self, *, wait: bool | None = ...) -> None: ...

class MatchingServiceGetStatusResponse(Message):
    @property
    def status(self) -> MatchingStatus: ...
    def __init__(self, *, status: MatchingStatus | None = ...) -> None: ...

class ListPairsRequest(Message):
    min_score: float
    filter: int
    limit: int
    cursor: str
    def __init__(self, *, min_score: float | None = ..., filter: int | None = ..., limit: int | None = ..., cursor: str | None = ...) -> None: ...

class ListPairsResponse(Message):
    @property
    def pairs(self) -> Messages[Pair]: ...
    next_cursor: str
    def __init__(self, *, pairs: Iterable[Pair] | None = ..., next_cursor: str | None = ...) -> None: ...

class DecidePairRequest(Message):
    @property
    def a(self) -> ProfileKey: ...
    @property
    def b(self) -> ProfileKey: ...
    decision: int
    by: str
    note: str
    def __init__(self, *, a: ProfileKey | None = ..., b: ProfileKey | None = ..., decision: int | None = ..., by: str | None = ..., note: str | None = ...) -> None: ...

class DecidePairResponse(Message):
    @property
    def pair(self) -> Pair: ...
    changed: bool
    one_profile: bool
    def __init__(self, *, pair: Pair | None = ..., changed: bool | None = ..., one_profile: bool | None = ...) -> None: ...

class QueryRequest(Message):
    sql: str
    @property
    def parameters(self) -> Messages[QueryParameter]: ...
    @property
    def consistency(self) -> Consistency: ...
    format: int
    @property
    def timeout(self) -> Duration: ...
    rows_max: int
    bytes_max: int
    def __init__(self, *, sql: str | None = ..., parameters: Iterable[QueryParameter] | None = ..., consistency: Consistency | None = ..., format: int | None = ..., timeout: Duration | None = ..., rows_max: int | None = ..., bytes_max: int | None = ...) -> None: ...

class QueryParameter(Message):
    name: str
    @property
    def value(self) -> Value: ...
    def __init__(self, *, name: str | None = ..., value: Value | None = ...) -> None: ...

class QueryResponse(Message):
    @property
    def start(self) -> QueryStart: ...
    @property
    def rows(self) -> QueryRows: ...
    arrow: bytes
    @property
    def end(self) -> QueryEnd: ...
    def __init__(self, *, start: QueryStart | None = ..., rows: QueryRows | None = ..., arrow: bytes | None = ..., end: QueryEnd | None = ...) -> None: ...

class QueryStart(Message):
    version: str
    @property
    def columns(self) -> Messages[QueryColumn]: ...
    def __init__(self, *, version: str | None = ..., columns: Iterable[QueryColumn] | None = ...) -> None: ...

class QueryColumn(Message):
    name: str
    type: str
    nullable: bool
    description: str
    def __init__(self, *, name: str | None = ..., type: str | None = ..., nullable: bool | None = ..., description: str | None = ...) -> None: ...

class QueryRows(Message):
    @property
    def rows(self) -> Scalars[str]: ...
    def __init__(self, *, rows: Iterable[str] | None = ...) -> None: ...

class QueryEnd(Message):
    rows: int
    bytes: int
    @property
    def elapsed(self) -> Duration: ...
    def __init__(self, *, rows: int | None = ..., bytes: int | None = ..., elapsed: Duration | None = ...) -> None: ...

class QueryServiceExplainRequest(Message):
    sql: str
    @property
    def parameters(self) -> Messages[QueryParameter]: ...
    analyze: bool
    @property
    def consistency(self) -> Consistency: ...
    @property
    def timeout(self) -> Duration: ...
    def __init__(self, *, sql: str | None = ..., parameters: Iterable[QueryParameter] | None = ..., analyze: bool | None = ..., consistency: Consistency | None = ..., timeout: Duration | None = ...) -> None: ...

class QueryServiceExplainResponse(Message):
    @property
    def plans(self) -> Messages[QueryPlan]: ...
    def __init__(self, *, plans: Iterable[QueryPlan] | None = ...) -> None: ...

class QueryPlan(Message):
    kind: str
    text: str
    def __init__(self, *, kind: str | None = ..., text: str | None = ...) -> None: ...

class ListTablesRequest(Message):
    def __init__(self) -> None: ...

class ListTablesResponse(Message):
    @property
    def tables(self) -> Messages[QueryTable]: ...
    def __init__(self, *, tables: Iterable[QueryTable] | None = ...) -> None: ...

class QueryTable(Message):
    schema: str
    name: str
    description: str
    @property
    def columns(self) -> Messages[QueryColumn]: ...
    def __init__(self, *, schema: str | None = ..., name: str | None = ..., description: str | None = ..., columns: Iterable[QueryColumn] | None = ...) -> None: ...

class Segment(Message):
    name: str
    expression: str
    description: str
    version: int
    def __init__(self, *, name: str | None = ..., expression: str | None = ..., description: str | None = ..., version: int | None = ...) -> None: ...

class ComputedTrait(Message):
    name: str
    aggregate: str
    of: str
    type: str
    @property
    def events(self) -> Scalars[str]: ...
    event_type: str
    filter: str
    window: str
    limit: int
    bound: int
    description: str
    def __init__(self, *, name: str | None = ..., aggregate: str | None = ..., of: str | None = ..., type: str | None = ..., events: Iterable[str] | None = ..., event_type: str | None = ..., filter: str | None = ..., window: str | None = ..., limit: int | None = ..., bound: int | None = ..., description: str | None = ...) -> None: ...

class PutSegmentRequest(Message):
    @property
    def segment(self) -> Segment: ...
    def __init__(self, *, segment: Segment | None = ...) -> None: ...

class PutSegmentResponse(Message):
    @property
    def segment(self) -> Segment: ...
    version: int
    changed: bool
    def __init__(self, *, segment: Segment | None = ..., version: int | None = ..., changed: bool | None = ...) -> None: ...

class PutComputedTraitRequest(Message):
    @property
    def computed_trait(self) -> ComputedTrait: ...
    def __init__(self, *, computed_trait: ComputedTrait | None = ...) -> None: ...

class PutComputedTraitResponse(Message):
    version: int
    changed: bool
    def __init__(self, *, version: int | None = ..., changed: bool | None = ...) -> None: ...

class DeleteDefinitionRequest(Message):
    name: str
    def __init__(self, *, name: str | None = ...) -> None: ...

class DeleteDefinitionResponse(Message):
    version: int
    def __init__(self, *, version: int | None = ...) -> None: ...

class ListDefinitionsRequest(Message):
    version: int
    def __init__(self, *, version: int | None = ...) -> None: ...

class ListDefinitionsResponse(Message):
    version: int
    @property
    def segments(self) -> Messages[Segment]: ...
    @property
    def computed_traits(self) -> Messages[ComputedTrait]: ...
    @property
    def created_at(self) -> Timestamp: ...
    live_version: int
    def __init__(self, *, version: int | None = ..., segments: Iterable[Segment] | None = ..., computed_traits: Iterable[ComputedTrait] | None = ..., created_at: Timestamp | None = ..., live_version: int | None = ...) -> None: ...

class PreviewRequest(Message):
    expression: str
    limit: int
    def __init__(self, *, expression: str | None = ..., limit: int | None = ...) -> None: ...

class PreviewResponse(Message):
    count: int
    overflows: int
    @property
    def members(self) -> Messages[SegmentMember]: ...
    profiles: int
    version: str
    def __init__(self, *, count: int | None = ..., overflows: int | None = ..., members: Iterable[SegmentMember] | None = ..., profiles: int | None = ..., version: str | None = ...) -> None: ...

class SegmentMember(Message):
    profile_id: str
    @property
    def identifier(self) -> Identifier: ...
    def __init__(self, *, profile_id: str | None = ..., identifier: Identifier | None = ...) -> None: ...

class SegmentServiceCountRequest(Message):
    expression: str
    def __init__(self, *, expression: str | None = ...) -> None: ...

class SegmentServiceCountResponse(Message):
    count: int
    overflows: int
    profiles: int
    definitions_version: int
    version: str
    def __init__(self, *, count: int | None = ..., overflows: int | None = ..., profiles: int | None = ..., definitions_version: int | None = ..., version: str | None = ...) -> None: ...

class SegmentServiceListMembersRequest(Message):
    expression: str
    limit: int
    cursor: str
    def __init__(self, *, expression: str | None = ..., limit: int | None = ..., cursor: str | None = ...) -> None: ...

class SegmentServiceListMembersResponse(Message):
    @property
    def members(self) -> Messages[SegmentMember]: ...
    next_cursor: str
    version: str
    def __init__(self, *, members: Iterable[SegmentMember] | None = ..., next_cursor: str | None = ..., version: str | None = ...) -> None: ...

class GetMembershipsRequest(Message):
    @property
    def identifier(self) -> Identifier: ...
    profile_id: str
    def __init__(self, *, identifier: Identifier | None = ..., profile_id: str | None = ...) -> None: ...

class GetMembershipsResponse(Message):
    @property
    def segments(self) -> Scalars[str]: ...
    @property
    def overflows(self) -> Scalars[str]: ...
    @property
    def computed_traits_json(self) -> ScalarMap[str, str]: ...
    version: str
    definitions_version: int
    def __init__(self, *, segments: Iterable[str] | None = ..., overflows: Iterable[str] | None = ..., computed_traits_json: Mapping[str, str] | None = ..., version: str | None = ..., definitions_version: int | None = ...) -> None: ...

class SegmentServiceWatchRequest(Message):
    @property
    def segments(self) -> Scalars[str]: ...
    cursor: str
    start: int
    response_changes_max: int
    def __init__(self, *, segments: Iterable[str] | None = ..., cursor: str | None = ..., start: int | None = ..., response_changes_max: int | None = ...) -> None: ...

class SegmentServiceWatchResponse(Message):
    @property
    def changes(self) -> Messages[Change]: ...
    cursor: str
    def __init__(self, *, changes: Iterable[Change] | None = ..., cursor: str | None = ...) -> None: ...

class VerifyRequest(Message):
    name: str
    def __init__(self, *, name: str | None = ...) -> None: ...

class VerifyResponse(Message):
    live: int
    recounted: int
    @property
    def differing(self) -> Messages[SegmentMember]: ...
    version: str
    def __init__(self, *, live: int | None = ..., recounted: int | None = ..., differing: Iterable[SegmentMember] | None = ..., version: str | None = ...) -> None: ...

class ClusterService:
    Status: Method[StatusRequest, StatusResponse]
    Nodes: Method[NodesRequest, NodesResponse]
    Shards: Method[ShardsRequest, ShardsResponse]
    Transfer: Method[TransferRequest, TransferResponse]
    Remove: Method[RemoveRequest, RemoveResponse]

class QualityService:
    Report: Method[ReportRequest, ReportResponse]

class QuarantineService:
    List: Method[QuarantineServiceListRequest, QuarantineServiceListResponse]
    Show: Method[ShowRequest, ShowResponse]
    Counts: Method[CountsRequest, CountsResponse]
    Mend: Method[MendRequest, MendResponse]
    Replay: Method[ReplayRequest, ReplayResponse]
    Drop: Method[DropRequest, DropResponse]

class RulesService:
    GetTraitRules: Method[GetRulesRequest, GetRulesResponse]
    PutTraitRules: Method[PutRulesRequest, PutRulesResponse]
    GetIdentityRules: Method[GetRulesRequest, GetRulesResponse]
    PutIdentityRules: Method[PutRulesRequest, PutRulesResponse]
    GetIdentityRulesStatus: Method[GetIdentityRulesStatusRequest, GetIdentityRulesStatusResponse]

class SchemaService:
    Put: Method[PutSchemaRequest, PutSchemaResponse]
    Get: Method[GetSchemaRequest, GetSchemaResponse]
    List: Method[ListSchemasRequest, ListSchemasResponse]
    Check: Method[CheckSchemaRequest, CheckSchemaResponse]

class SourceService:
    Create: Method[CreateRequest, CreateResponse]
    List: Method[SourceServiceListRequest, SourceServiceListResponse]
    Disable: Method[DisableRequest, DisableResponse]
    Rotate: Method[RotateRequest, RotateResponse]

class IngestService:
    Ingest: Method[IngestRequest, IngestResponse]
    IngestStream: Method[IngestStreamRequest, IngestStreamResponse]

class ProfileService:
    Get: Method[GetRequest, GetResponse]
    BatchGet: Method[BatchGetRequest, BatchGetResponse]
    List: Method[ProfileServiceListRequest, ProfileServiceListResponse]
    Timeline: Method[TimelineRequest, TimelineResponse]
    Explain: Method[ExplainRequest, ExplainResponse]
    Watch: Method[WatchRequest, WatchResponse]
    Split: Method[SplitRequest, SplitResponse]

class GroupService:
    Get: Method[GroupServiceGetRequest, GroupServiceGetResponse]
    List: Method[GroupServiceListRequest, GroupServiceListResponse]
    ListMembers: Method[ListMembersRequest, ListMembersResponse]
    ListMemberships: Method[ListMembershipsRequest, ListMembershipsResponse]

class MatchingService:
    Match: Method[MatchRequest, MatchResponse]
    GetStatus: Method[MatchingServiceGetStatusRequest, MatchingServiceGetStatusResponse]
    ListPairs: Method[ListPairsRequest, ListPairsResponse]
    DecidePair: Method[DecidePairRequest, DecidePairResponse]

class QueryService:
    Query: Method[QueryRequest, QueryResponse]
    Explain: Method[QueryServiceExplainRequest, QueryServiceExplainResponse]
    ListTables: Method[ListTablesRequest, ListTablesResponse]

class SegmentService:
    PutSegment: Method[PutSegmentRequest, PutSegmentResponse]
    PutComputedTrait: Method[PutComputedTraitRequest, PutComputedTraitResponse]
    DeleteDefinition: Method[DeleteDefinitionRequest, DeleteDefinitionResponse]
    ListDefinitions: Method[ListDefinitionsRequest, ListDefinitionsResponse]
    Preview: Method[PreviewRequest, PreviewResponse]
    Count: Method[SegmentServiceCountRequest, SegmentServiceCountResponse]
    ListMembers: Method[SegmentServiceListMembersRequest, SegmentServiceListMembersResponse]
    GetMemberships: Method[GetMembershipsRequest, GetMembershipsResponse]
    Watch: Method[SegmentServiceWatchRequest, SegmentServiceWatchResponse]
    Verify: Method[VerifyRequest, VerifyResponse]
