"""Writes what is generated in this package; `--check` only says whether it is current (exit code 1 when it isn't).

Three things are generated, and checked in so that installing needs neither protoc nor the repository around it:

- `_descriptors.py`: the protos' descriptors, without comments. Messages are made of them when the package is imported,
  so there is no generated message code, which would be tied to few versions of protobuf. Whatever version of
  grpcio-tools runs this writes the same.
- `_wire.pyi`: the types of these messages and methods, for type checkers.
- `_sync/`: the twins of the modules in `aio/`, without `async` and `await`, so that the two never drift apart.
"""

from __future__ import annotations

import base64
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "src" / "isthmus"
PROTO = HERE.parents[2] / "proto"
HEAD = "# Written by tools/generate.py: change what it is made of, and run it.\n"


def descriptors() -> FileDescriptorSet:
    """All files of the public package and what they import, in an order in which each comes behind its imports."""
    import grpc_tools
    from grpc_tools import protoc

    files = sorted(str(path.relative_to(PROTO)) for path in (PROTO / "isthmus" / "v1").glob("*.proto"))
    if not files:
        sys.exit(f"there are no protos in {PROTO}: run this in a checkout")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        known = Path(grpc_tools.__file__).parent / "_proto"
        roots = [f"-I{PROTO}", f"-I{HERE}", f"-I{known}"]
        if protoc.main(["protoc", *roots, f"--descriptor_set_out={out}", "--include_imports", *files, "errors.proto"]):
            sys.exit("protoc failed")
        found = FileDescriptorSet.FromString(out.read_bytes())
    ordered: list[descriptor_pb2.FileDescriptorProto] = []
    pending = sorted(found.file, key=lambda file: file.name)
    while pending:
        names = {file.name for file in ordered}
        ready = [file for file in pending if all(name in names for name in file.dependency)]
        ordered.append(ready[0])
        pending.remove(ready[0])
    for file in ordered:
        # Versions of protoc differ in what they say of names in JSON and of other languages.
        file.ClearField("options")
        file.ClearField("source_code_info")
        for message in file.message_type:
            _strip(message)
    return FileDescriptorSet(file=ordered)


def _strip(message: DescriptorProto) -> None:
    for field in message.field:
        field.ClearField("json_name")
    for inner in message.nested_type:
        _strip(inner)


def descriptors_module(files: FileDescriptorSet) -> str:
    """`_descriptors.py`: a file each, so that a change of one shows as that."""
    parts = [HEAD, '"""The descriptors of the protos, serialised; see `isthmus._wire`."""\n\nFILES = {\n']
    for file in files.file:
        text = base64.b64encode(file.SerializeToString(deterministic=True)).decode()
        lines = "".join(f'        b"{line}"\n' for line in textwrap.wrap(text, 96))
        parts.append(f'    "{file.name}": (\n{lines}    ),\n')
    return "".join([*parts, "}\n"])


_SCALARS = {
    FieldDescriptorProto.TYPE_DOUBLE: "float",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_STRING: "str",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
}


def _name(type_name: str) -> str:
    return type_name.rsplit(".", 1)[-1]


def _type(field: FieldDescriptorProto, repeated: bool = True) -> str:
    is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
    one = _name(field.type_name) if is_message else _SCALARS.get(field.type, "int")
    many = repeated and field.label == FieldDescriptorProto.LABEL_REPEATED
    return f"Sequence[{one}]" if many else one


def _message(message: DescriptorProto) -> Iterator[str]:
    maps = {inner.name: inner for inner in message.nested_type if inner.options.map_entry}
    yield f"class {message.name}(Message):\n"
    arguments = []
    for field in message.field:
        entry = maps.get(_name(field.type_name))
        if entry is not None:
            value = _type(entry.field[1])
            is_message = entry.field[1].type == FieldDescriptorProto.TYPE_MESSAGE
            held = "MessageMap" if is_message else "ScalarMap"
            yield f"    @property\n    def {field.name}(self) -> {held}[str, {value}]: ...\n"
            arguments.append(f"{field.name}: Mapping[str, {value}] | None = ...")
            continue
        one = _type(field, repeated=False)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            held = "Messages" if field.type == FieldDescriptorProto.TYPE_MESSAGE else "Scalars"
            yield f"    @property\n    def {field.name}(self) -> {held}[{one}]: ...\n"
            arguments.append(f"{field.name}: Iterable[{one}] | None = ...")
        else:
            if field.type == FieldDescriptorProto.TYPE_MESSAGE:
                yield f"    @property\n    def {field.name}(self) -> {one}: ...\n"
            else:
                yield f"    {field.name}: {one}\n"
            arguments.append(f"{field.name}: {one} | None = ...")
    if arguments:
        yield f"    def __init__(self, *, {', '.join(arguments)}) -> None: ...\n"
    else:
        yield "    def __init__(self) -> None: ...\n"


def wire_stub(files: FileDescriptorSet) -> str:
    """`_wire.pyi`."""
    parts = [
        HEAD,
        "from collections.abc import Iterable, Mapping\n\n",
        "from google.protobuf.internal.containers import MessageMap, ScalarMap\n",
        "from google.protobuf.internal.containers import RepeatedCompositeFieldContainer as Messages\n",
        "from google.protobuf.internal.containers import RepeatedScalarFieldContainer as Scalars\n",
        "from google.protobuf.message import Message\n\n",
        "from ._method import Method\n\n",
        "ENUMS: Mapping[str, Mapping[int, str]]\n\n",
    ]
    for file in files.file:
        for message in file.message_type:
            parts.extend(_message(message))
            parts.append("\n")
    for file in files.file:
        for service in file.service:
            parts.append(f"class {service.name}:\n")
            for method in service.method:
                types = f"{_name(method.input_type)}, {_name(method.output_type)}"
                parts.append(f"    {method.name}: Method[{types}]\n")
            parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


_TWINS = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit|iter)__\b", r"__\1__"),
    (r"\bAsync(Iterator|Iterable)\b", r"\1"),
    (r"\bAsyncGenerator\[(.*), None\]", r"Generator[\1, None, None]"),
    (r"\bAsyncGenerator\b", "Generator"),
    (r"\.aclose\(", ".close("),
    (r"\bisthmus\.aio\b", "isthmus"),
    (r"asynchronous", "blocking"),
]


def twin(text: str) -> str:
    """A module of `aio/` without `async` and `await`."""
    for pattern, instead in _TWINS:
        text = re.sub(pattern, instead, text)
    return HEAD + text


def outputs() -> dict[Path, str]:
    """Everything that is generated, by where it goes."""
    files = descriptors()
    found = {PACKAGE / "_descriptors.py": descriptors_module(files), PACKAGE / "_wire.pyi": wire_stub(files)}
    for path in sorted((PACKAGE / "aio").glob("_[a-z]*.py")):
        # How a call is made and how one waits differs by more than words.
        if path.name != "_caller.py":
            found[PACKAGE / "_sync" / path.name] = twin(path.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Writes, or checks."""
    stale = []
    for path, text in outputs().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(HERE.parent)))
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{'stale' if '--check' in sys.argv else 'written'}: {name}")
    if stale and "--check" in sys.argv:
        sys.exit(1)


if __name__ == "__main__":
    main()
