"""A server that answers what a test tells it to: for answers that a real hub gives rarely."""

from __future__ import annotations

from collections import namedtuple
from concurrent import futures

import grpc

from isthmus import _wire as wire

_Status = namedtuple("_Status", ["code", "details", "trailing_metadata"])


def refuse(context, code, reason="", message="no", *, retry_after=None, metadata=None, fields=(), domain="isthmus.v1"):
    """Answers with an error as the hub does, details and all."""
    details = []

    def add(name, message):
        url = f"type.googleapis.com/google.rpc.{name}"
        details.append(wire.Any(type_url=url, value=message.SerializeToString()))

    if reason:
        add("ErrorInfo", wire.ErrorInfo(reason=reason, domain=domain, metadata=metadata or {}))
    if retry_after is not None:
        delay = wire.Duration(seconds=int(retry_after), nanos=round(retry_after % 1 * 1e9))
        add("RetryInfo", wire.RetryInfo(retry_delay=delay))
    if fields:
        violations = [wire.FieldViolation(field=field, description=what) for field, what in fields]
        add("BadRequest", wire.BadRequest(field_violations=violations))
    code = getattr(grpc.StatusCode, code)
    packed = wire.Status(code=code.value[0], message=message, details=details).SerializeToString()
    trailers = (("grpc-status-details-bin", packed),) if details else ()
    context.abort_with_status(_Status(code, message, trailers))


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, hub):
        self._hub = hub

    def service(self, call):
        name = call.method.rsplit("/", 1)[-1]
        service = call.method.split("/")[1].rsplit(".", 1)[-1]
        method = getattr(getattr(wire, service), name)

        def answer(request, context):
            metadata = dict(context.invocation_metadata())
            self._hub.calls.append((name, request, metadata))
            return self._hub.answers[name](request, context)

        if name == "IngestStream":
            return grpc.stream_stream_rpc_method_handler(
                self._hub.stream,
                request_deserializer=wire.IngestStreamRequest.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
        streams = {
            ("ProfileService", "Watch"): wire.WatchRequest,
            ("SegmentService", "Watch"): wire.SegmentServiceWatchRequest,
            ("QueryService", "Query"): wire.QueryRequest,
        }
        if (service, name) in streams:
            return grpc.unary_stream_rpc_method_handler(
                answer,
                request_deserializer=streams[service, name].FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=self._hub.request_class(method).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


class FakeHub:
    """Set `answers[method]` to a function of request and context; `calls` has what was asked.

    An ingest stream is answered message by message, each as the batch that it would be: `answers["Ingest"]` is asked,
    and `calls` has it as a call of its own. `opened` has how streams were opened, `credits` how many items and bytes
    beyond those that are acknowledged one may be sent.
    """

    def __init__(self, credentials=None):
        self.answers = {}
        self.calls = []
        self.opened = []
        self.credits = (4_096, 2 << 20)
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[_Handlers(self)])
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.endpoint = f"127.0.0.1:{port}"
        self._server.start()

    def stream(self, requests, context):
        """Speaks the protocol of `ingest.proto`, and holds the client to it."""
        begin = next(requests).open
        self.opened.append(begin)
        done, received, bytes_done, bytes_received = begin.first_sequence - 1, begin.first_sequence - 1, 0, 0
        items_more, bytes_more = self.credits

        def told(results=()):
            return wire.IngestStreamResponse(
                acknowledged=done,
                results=results,
                sequence_max=done + items_more,
                bytes_max=bytes_done + bytes_more,
                item_bytes_max=1 << 20,
                received_until=wire.Timestamp(seconds=done),
            )

        yield told()
        for request in requests:
            items = request.items.items
            assert request.items.first_sequence == received + 1
            received += len(items)
            bytes_received += sum(item.ByteSize() for item in items)
            assert received <= done + items_more
            assert bytes_received <= bytes_done + bytes_more
            batch = wire.IngestRequest(source=begin.source, items=items)
            self.calls.append(("IngestStream", batch, dict(context.invocation_metadata())))
            answer = self.answers["Ingest"](batch, context)
            done, bytes_done = received, bytes_received
            yield told(answer.results)

    @staticmethod
    def request_class(method):
        service, name = method.path.split("/")[1].rsplit(".", 1)[-1], method.path.rsplit("/", 1)[-1]
        known = {"Ingest": wire.IngestRequest, "Get": wire.GetRequest, "Status": wire.StatusRequest}
        known.update({"Create": wire.CreateRequest, "List": wire.ProfileServiceListRequest})
        segments = {
            "PutSegment": wire.PutSegmentRequest,
            "PutComputedTrait": wire.PutComputedTraitRequest,
            "DeleteDefinition": wire.DeleteDefinitionRequest,
            "ListDefinitions": wire.ListDefinitionsRequest,
            "ListMembers": wire.SegmentServiceListMembersRequest,
            "GetMemberships": wire.GetMembershipsRequest,
            "Verify": wire.VerifyRequest,
        }
        queries = {"Explain": wire.QueryServiceExplainRequest, "ListTables": wire.ListTablesRequest}
        if service in ("SegmentService", "QueryService"):
            return {"SegmentService": segments, "QueryService": queries}[service][name]
        assert service in ("IngestService", "ProfileService", "ClusterService", "SourceService")
        return known[name]

    def stop(self):
        self._server.stop(None)


def accept_all(request, context):
    """Accepts a batch."""
    accepted = wire.ItemResult(outcome=1)
    return wire.IngestResponse(results=[accepted] * len(request.items), version="0000000000000001")
