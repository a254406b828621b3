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

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=self._hub.request_class(method).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


class FakeHub:
    """Set `answers[method]` to a function of request and context; `calls` has what was asked."""

    def __init__(self):
        self.answers = {}
        self.calls = []
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[_Handlers(self)])
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    @staticmethod
    def request_class(method):
        service, name = method.path.split("/")[1].rsplit(".", 1)[-1], method.path.rsplit("/", 1)[-1]
        known = {"Ingest": wire.IngestRequest, "Get": wire.GetRequest, "Status": wire.StatusRequest}
        known.update({"Create": wire.CreateRequest, "List": wire.ProfileServiceListRequest})
        assert service in ("IngestService", "ProfileService", "ClusterService", "SourceService")
        return known[name]

    def stop(self):
        self._server.stop(None)


def accept_all(request, context):
    """Accepts a batch."""
    accepted = wire.ItemResult(outcome=1)
    return wire.IngestResponse(results=[accepted] * len(request.items), version="0000000000000001")
