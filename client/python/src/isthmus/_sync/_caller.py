"""How a blocking call is made, and how threads wait: what differs from `isthmus.aio` by more than words."""

from __future__ import annotations

import atexit
import random
import threading
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Callable, TypeVar

import grpc

from .._endpoints import CHANNEL_OPTIONS, Pool, Slot
from .._method import Method
from .._options import Options
from .._retry import Kind, Progress, refusal
from ..errors import ClosedError

Q = TypeVar("Q")
A = TypeVar("A")


class Channels:
    """The connections of a client and of those made from it."""

    def __init__(self, addresses: Sequence[str]) -> None:
        slots = [Slot(one, grpc.insecure_channel(one, options=CHANNEL_OPTIONS)) for one in addresses]
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

    def sleep(self, seconds: float) -> None:
        """Waits."""
        if seconds > 0:
            time.sleep(seconds)


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
