"""How a call is awaited, and how tasks wait: what differs from the blocking client by more than words."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from .._endpoints import CHANNEL_OPTIONS, Address, Pool, Slot
from .._method import Method
from .._options import Options
from .._retry import BrokenError, Ending, Kind, Progress, refusal
from ..errors import ClosedError

Q = TypeVar("Q")
A = TypeVar("A")


class Channels:
    """The connections of a client and of those made from it. They belong to the loop of the first call."""

    def __init__(self, addresses: Sequence[Address], credentials: grpc.ChannelCredentials | None) -> None:
        self._addresses = tuple(addresses)
        self._credentials = credentials
        self._pool: Pool[grpc.aio.Channel] | None = None
        self.closed = False

    @property
    def pool(self) -> Pool[grpc.aio.Channel]:
        """Made when it is first asked for, within the loop."""
        if self._pool is None:
            slots = [Slot(one.authority, self._channel(one)) for one in self._addresses]
            self._pool = Pool(slots, random.randrange(1 << 16))
        return self._pool

    def _channel(self, address: Address) -> grpc.aio.Channel:
        if not address.encrypted:
            return grpc.aio.insecure_channel(address.authority, options=CHANNEL_OPTIONS)
        credentials = self._credentials or grpc.ssl_channel_credentials()
        return grpc.aio.secure_channel(address.authority, credentials, options=CHANNEL_OPTIONS)

    async def close(self) -> None:
        """Closes them; calls under way fail."""
        self.closed = True
        for slot in self._pool.slots if self._pool else ():
            await slot.channel.close()


class Caller:
    """Carries calls out: tries until answered, refused for good, or the deadline has come."""

    def __init__(self, channels: Channels, options: Options) -> None:
        self.channels = channels
        self.options = options

    async def call(
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
        if self.channels.closed:
            raise ClosedError("the client is closed")
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
                answer = await send(
                    request,
                    timeout=left if long else min(left, options.try_limit),
                    metadata=options.metadata(request_id, with_key),
                )
            except grpc.aio.AioRpcError as error:
                trailers = error.trailing_metadata()
                ending, failed = refusal(error.code().name, error.details() or "", trailers, request_id)
                pool.done(slot, ending, time.monotonic())
                wait = progress.failed(slot.address, ending, failed, time.monotonic(), random.random())
            except BaseException as error:
                pool.done(slot, None, time.monotonic())
                if self.channels.closed:
                    raise ClosedError("the client is closed") from error
                raise
            else:
                pool.done(slot, None, time.monotonic())
                return answer
            await self.sleep(wait)

    async def follow(self, method: Method[Q, A], request: Q) -> Stream[A]:
        """Asks once, and is answered with a stream. It may be of no use: the first `read` tells.

        Raises:
            ClosedError: When the client is closed.
        """
        slot, request_id = self._begin()
        call = slot.channel.unary_stream(
            method.path, request_serializer=method.encode, response_deserializer=method.decode
        )(request, metadata=self.options.metadata(request_id, False))
        return Stream(self.channels, slot, call, request_id)

    async def converse(self, method: Method[Q, A], requests: AsyncIterator[Q]) -> Stream[A]:
        """Streams both ways, with the write key.

        Raises:
            ClosedError: When the client is closed.
        """
        slot, request_id = self._begin()
        call = slot.channel.stream_stream(
            method.path, request_serializer=method.encode, response_deserializer=method.decode
        )(requests, metadata=self.options.metadata(request_id, True))
        return Stream(self.channels, slot, call, request_id)

    def _begin(self) -> tuple[Slot[grpc.aio.Channel], str]:
        if self.channels.closed:
            raise ClosedError("the client is closed")
        return self.channels.pool.take(None, time.monotonic()), self.options.new_request_id()

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        if seconds > 0:
            await asyncio.sleep(seconds)


class Stream(Generic[A]):
    """A stream of answers from a node, which counts as busy with it until it has ended."""

    def __init__(self, channels: Channels, slot: Slot[grpc.aio.Channel], call: Any, request_id: str) -> None:
        self._channels = channels
        self._slot: Slot[grpc.aio.Channel] | None = slot
        self._call = call
        self._request_id = request_id
        self._cancelled = False

    async def read(self, patience: float) -> A | None:
        """The next answer; `None` at its end, by the node or by `cancel`. Not to be called again after an error.

        Args:
            patience: How many seconds the node may be silent.

        Raises:
            BrokenError: When it has ended in another way, or is silent for too long.
            ClosedError: When the client is closed.
        """
        try:
            answer = await asyncio.wait_for(self._call.read(), patience)
        except asyncio.TimeoutError:
            self._end(Ending.TIMED_OUT)
            _, error = refusal("DEADLINE_EXCEEDED", "the node said nothing for long", (), self._request_id)
            raise BrokenError(Ending.TIMED_OUT, error) from None
        except grpc.aio.AioRpcError as failed:
            trailers = failed.trailing_metadata()
            ending, error = refusal(failed.code().name, failed.details() or "", trailers, self._request_id)
            # A node that ends a stream is left alone for a moment, whatever it says.
            self._end(Ending.BROKEN if ending is Ending.ANSWERED else ending)
            raise BrokenError(ending, error) from failed
        except BaseException as error:
            self._end(None)
            if self._channels.closed:
                raise ClosedError("the client is closed") from error
            if self._cancelled and isinstance(error, asyncio.CancelledError):
                return None
            raise
        if answer is grpc.aio.EOF:
            self._end(None)
            return None
        found: A = answer
        return found

    def cancel(self) -> None:
        """Ends it from this side; whoever reads is told."""
        self._cancelled = True
        self._end(None)

    def _end(self, ending: Ending | None) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._call.cancel()
            self._channels.pool.done(slot, ending, time.monotonic())


class Signal:
    """A lock, and news for those who wait."""

    def __init__(self) -> None:
        self._condition = asyncio.Condition()

    async def __aenter__(self) -> Signal:
        await self._condition.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._condition.release()

    async def wait_for(self, holds: Callable[[], bool], timeout: float | None) -> bool:
        """Waits, with the lock given away, until something holds; whether it does."""
        try:
            await asyncio.wait_for(self._condition.wait_for(holds), timeout)
        except asyncio.TimeoutError:
            return holds()
        return True

    def notify(self) -> None:
        """There is news."""
        self._condition.notify_all()


class Worker:
    """A task. It ends with its loop, so `finish` has to be awaited before that; nobody else calls it."""

    def __init__(
        self,
        run: Callable[[], Coroutine[Any, Any, None]],
        finish: Callable[[], Coroutine[Any, Any, Any]],  # noqa: ARG002  as of the thread
    ) -> None:
        self._task = asyncio.get_running_loop().create_task(run())

    async def join(self) -> None:
        """Waits for its end."""
        await asyncio.wait([self._task])
