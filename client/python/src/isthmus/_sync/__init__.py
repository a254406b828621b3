"""The blocking client. All but `_caller` is generated from `isthmus.aio` by `tools/generate.py`."""

from ._client import Client
from ._pager import Pager
from ._sql import Answer
from ._watch import Watch
from ._writer import IngestWriter

__all__ = ["Answer", "Client", "IngestWriter", "Pager", "Watch"]
