"""The asyncio twin of the client: the same calls, awaited; the same iterators, with `async for`.

>>> async with isthmus.aio.Client("127.0.0.1:7400") as hub:
...     profile = await hub.profiles.get("user_id:42")
...     async for event in hub.profiles.timeline("user_id:42"):
...         print(event.event)

A client belongs to the event loop that it is first used in.
"""

from ._client import Client
from ._pager import Pager
from ._sql import Answer
from ._watch import Watch
from ._writer import IngestWriter

__all__ = ["Answer", "Client", "IngestWriter", "Pager", "Watch"]
