"""The messages and methods of the protos, made from their descriptors when this is imported.

Generated message code is bound to the versions of protobuf around the one that generated it; descriptors aren't, so
this package gets along with whatever protobuf (4.22 or later) an environment has. They live in a pool of their own:
nothing that others register can be in the way. `_wire.pyi` has the types.
"""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pool, message_factory

from ._descriptors import FILES
from ._method import Method

ENUMS: dict[str, dict[int, str]] = {}
"""By enum: its numbers' names, in lower case, without the enum's own: `accepted` for `ITEM_OUTCOME_ACCEPTED`."""


def _prefix(name: str) -> str:
    """What the names of an enum's values begin with: `ITEM_OUTCOME_` of `ItemOutcome`."""
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name)[1:] + "_"


def _load() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    made: dict[str, Any] = {}
    for text in FILES.values():
        pool.AddSerializedFile(base64.b64decode(text))
    for name in FILES:
        file = pool.FindFileByName(name)
        for message in file.message_types_by_name.values():
            made[message.name] = message_factory.GetMessageClass(message)
        for enum in file.enum_types_by_name.values():
            prefix = _prefix(enum.name)
            ENUMS[enum.name] = {value.number: value.name[len(prefix) :].lower() for value in enum.values}
        for service in file.services_by_name.values():
            methods = {
                method.name: Method(
                    path=f"/{service.full_name}/{method.name}",
                    encode=message_factory.GetMessageClass(method.input_type).SerializeToString,
                    decode=message_factory.GetMessageClass(method.output_type).FromString,
                )
                for method in service.methods
            }
            made[service.name] = SimpleNamespace(**methods)
    return made


globals().update(_load())
