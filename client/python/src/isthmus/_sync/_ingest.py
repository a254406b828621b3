# Written by tools/generate.py: change what it is made of, and run it.
"""Sending a batch, again where that can help.

A try that fails as a whole is repeated by the call itself; of one that was answered, only the items are sent again
whose outcome the hub doesn't know, or which it refused for the moment. When the deadline comes first, they are handed
back with the outcome that they had last.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from .. import _wire as wire
from .._retry import Kind, wait_seconds
from ..errors import BadAnswerError, Error
from ..model.ingest import Ingested, ItemResult
from ._caller import Caller


def send_items(caller: Caller, items: Sequence[wire.IngestItem], timeout: float | None) -> Ingested:
    """Sends a batch, and waits until it is stored."""
    deadline = time.monotonic() + (caller.options.deadline if timeout is None else timeout)

    def send(which: Sequence[int]) -> wire.IngestResponse:
        request = wire.IngestRequest(source=caller.options.source, items=[items[index] for index in which])
        answer = caller.call(
            wire.IngestService.Ingest,
            request,
            kind=Kind.REPEATABLE,
            timeout=max(deadline - time.monotonic(), 0.001),
            with_key=True,
        )
        if len(answer.results) != len(which):
            raise BadAnswerError("the answer has not one result for each item")
        return answer

    first = send(range(len(items)))
    results = [ItemResult.of(index, result) for index, result in enumerate(first.results)]
    version, attempt = first.version, 0
    while True:
        still_open = [result.index for result in results if result.is_open]
        attempt += 1
        wait = wait_seconds(attempt, None, random.random())
        if not still_open or time.monotonic() + wait >= deadline:
            break
        caller.sleep(wait)
        try:
            answer = send(still_open)
        except Error:
            break  # What the first answer said stays true when a later try isn't answered.
        for index, result in zip(still_open, answer.results, strict=True):
            results[index] = ItemResult.of(index, result)
        # Tokens compare as text; the largest covers the whole batch.
        version = max(version, answer.version)
    return Ingested(results, version or None)
