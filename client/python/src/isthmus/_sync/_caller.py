"""How a blocking call is made, and how threads wait: what differs from `isthmus.aio` by more than words."""

from __future__ import annotations

import atexit
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc

from .._endpoints import CHANNEL_OPTIONS, Address, Pool, Slot
from .._method import Method
from .._options import Options
from .._retry import BrokenError, Ending, Kind, NoStreamError, Progress, refusal
from ..errors import ClosedError

Q = TypeVar("Q")
A = TypeVar("A")


class Channels:
    """The connections of a client and of those made from it."""

    def __init__(self, addresses: Sequence[Address], credentials: grpc.ChannelCredentials | None) -> None:
        def channel(address: Address) -> grpc.Channel:
            if not address.encrypted:
                return grpc.insecure_channel(address.authority, options=CHANNEL_OPTIONS)
            trusted = credentials or grpc.ssl_channel_credentials()
            return grpc.secure_channel(address.authority, trusted, options=CHANNEL_OPTIONS)

        slots = [Slot(one.authority, channel(one)) for one in addresses]
        self.pool: Pool[grpc.Channel] = Pool(slots, random.randrange(1 << 16))
        self.closed = False

    def close(self) -> None:
        """Closes them; calls under way fail."""
        self.closed = True
        for slot in self.pool.slots:
            slot.channel.close()


class Caller:
    """Carries calls out: tries until answered, refused for good, or the deadline has come."""

    def __init__(self, channels: Channels, options: Options) -> None:
        self.channels = channels
        self.options = options

    def call(
        self,
        method: Method[Q, A],
        request: Q,
        *,
        kind: Kind = Kind.READ,
        timeout: float | None = None,
        long: bool = False,
        with_key: bool = False,
    ) -> A:
        """Asks, and returns the answer.

        Args:
            method: What to call.
            request: What to ask.
            kind: What repeating it would do.
            timeout: How long it may take, in seconds, instead of the client's deadline.
            long: Whether one try may take all of that.
            with_key: Whether the call carries the write key.
        """
        pool, options = self.channels.pool, self.options
        limit = options.deadline if timeout is None else timeout
        deadline = time.monotonic() + limit
        request_id = options.new_request_id()
        progress = Progress(kind, len(pool.slots), deadline)
        while True:
            if self.channels.closed:
                raise ClosedError("the client is closed")
            slot = pool.take(progress.hint, time.monotonic())
            try:
                send = slot.channel.unary_unary(
                    method.path, request_serializer=method.encode, response_deserializer=method.decode
                )
                left = deadline - time.monotonic()
                answer = send(
                    request,
                    timeout=left if long else min(left, options.try_limit),
                    metadata=options.metadata(request_id, with_key),
                )
            except grpc.RpcError as error:
                trailers = error.trailing_metadata() or ()
                ending, failed = refusal(error.code().name, error.details() or "", trailers, request_id)
                pool.done(slot, ending, time.monotonic())
                wait = progress.failed(slot.address, ending, failed, time.monotonic(), random.random())
            except BaseException as error:
                pool.done(slot, None, time.monotonic())
                if self.channels.closed and isinstance(error, ValueError):
                    raise ClosedError("the client is closed") from error
                raise
            else:
                pool.done(slot, None, time.monotonic())
                return answer
            self.sleep(wait)

    def follow(self, method: Method[Q, A], request: Q) -> Stream[A]:
        """Asks once, and is answered with a stream. It may be of no use: the first `read` tells.

        Raises:
            ClosedError: When the client is closed.
            NoStreamError: When the interpreter is ending.
        """

        def ask(channel: grpc.Channel, metadata: Any) -> Any:
            return channel.unary_stream(
                method.path, request_serializer=method.encode, response_deserializer=method.decode
            )(request, metadata=metadata)

        return self._open(ask, False)

    def converse(self, method: Method[Q, A], requests: Iterator[Q]) -> Stream[A]:
        """Streams both ways, with the write key.

        Raises:
            ClosedError: When the client is closed.
            NoStreamError: When the interpreter is ending.
        """

        def ask(channel: grpc.Channel, metadata: Any) -> Any:
            return channel.stream_stream(
                method.path, request_serializer=method.encode, response_deserializer=method.decode
            )(requests, metadata=metadata)

        return self._open(ask, True)

    def _open(self, ask: Callable[[grpc.Channel, Any], Any], with_key: bool) -> Stream[Any]:
        if self.channels.closed:
            raise ClosedError("the client is closed")
        pool, request_id = self.channels.pool, self.options.new_request_id()
        slot = pool.take(None, time.monotonic())
        try:
            call = ask(slot.channel, self.options.metadata(request_id, with_key))
            try:
                return Stream(self.channels, slot, call, request_id)
            except RuntimeError:
                call.cancel()
                raise
        except BaseException as error:
            pool.done(slot, None, time.monotonic())
            if self.channels.closed and isinstance(error, ValueError):
                raise ClosedError("the client is closed") from error
            if isinstance(error, RuntimeError):
                # gRPC reads a stream by threads, and from Python 3.12 on none can be started at the very end.
                raise NoStreamError from error
            raise

    def sleep(self, seconds: float) -> None:
        """Waits."""
        if seconds > 0:
            time.sleep(seconds)


class Stream(Generic[A]):
    """A stream of answers from a node, which counts as busy with it until it has ended."""

    def __init__(self, channels: Channels, slot: Slot[grpc.Channel], call: Any, request_id: str) -> None:
        self._channels = channels
        self._slot: Slot[grpc.Channel] | None = slot
        self._call = call
        self._request_id = request_id
        self._lock = threading.Lock()
        self._cancelled = False
        self._silent_at = float("inf")
        self._silent = False
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="isthmus-stream", daemon=True).start()

    def _watch(self) -> None:
        """Ends a stream that is silent for too long: reading from it has no limit of its own."""
        while not self._ended.wait(1.0):
            if time.monotonic() > self._silent_at:
                self._silent = True
                self._call.cancel()
                return

    def read(self, patience: float) -> A | None:
        """The next answer; `None` at its end, by the node or by `cancel`. Not to be called again after an error.

        Args:
            patience: How many seconds the node may be silent, to the second.

        Raises:
            BrokenError: When it has ended in another way, or is silent for too long.
            ClosedError: When the client is closed.
        """
        self._silent_at = time.monotonic() + patience
        try:
            answer: A | None = next(self._call, None)
        except grpc.RpcError as failed:
            if self._channels.closed:
                self._end(None)
                raise ClosedError("the client is closed") from failed
            if self._cancelled:
                return None
            if self._silent:
                ending = Ending.TIMED_OUT
                _, error = refusal("DEADLINE_EXCEEDED", "the node said nothing for long", (), self._request_id)
            else:
                trailers = failed.trailing_metadata() or ()
                ending, error = refusal(failed.code().name, failed.details() or "", trailers, self._request_id)
            # A node that ends a stream is left alone for a moment, whatever it says.
            self._end(Ending.BROKEN if ending is Ending.ANSWERED else ending)
            raise BrokenError(ending, error) from failed
        except BaseException:
            self._end(None)
            raise
        self._silent_at = float("inf")
        if answer is None:
            self._end(None)
        return answer

    def cancel(self) -> None:
        """Ends it from this side; whoever reads is told."""
        self._cancelled = True
        self._end(None)

    def _end(self, ending: Ending | None) -> None:
        with self._lock:
            slot, self._slot = self._slot, None
        if slot is not None:
            self._ended.set()
            self._call.cancel()
            self._channels.pool.done(slot, ending, time.monotonic())


class Signal:
    """A lock, and news for those who wait."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def __enter__(self) -> Signal:
        self._condition.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._condition.release()

    def wait_for(self, holds: Callable[[], bool], timeout: float | None) -> bool:
        """Waits, with the lock given away, until something holds; whether it does."""
        return self._condition.wait_for(holds, timeout)

    def notify(self) -> None:
        """There is news."""
        self._condition.notify_all()


class Worker:
    """A thread. Python may end without it, so `finish` is called before: a program's last events are sent."""

    def __init__(self, run: Callable[[], None], finish: Callable[[], Any]) -> None:
        self._thread = threading.Thread(target=run, name="isthmus-writer", daemon=True)
        weak = weakref.WeakMethod(finish)

        def at_exit() -> None:
            held = weak()
            if held is not None:
                held()

        self._at_exit = at_exit
        atexit.register(at_exit)
        self._thread.start()

    def join(self) -> None:
        """Waits for its end."""
        self._thread.join()
        atexit.unregister(self._at_exit)
