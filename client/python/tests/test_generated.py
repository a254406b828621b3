"""What is generated is what it would be if it were generated now, and nothing else is needed to install."""

import importlib.util
from pathlib import Path

import pytest

import isthmus
from isthmus import _wire as wire

ROOT = Path(__file__).resolve().parents[1]
PROTO = ROOT.parents[1] / "proto"


def test_generated_files_are_current():
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools, as of isthmus[test]")
    if not PROTO.is_dir():
        pytest.skip("the protos are only in a checkout of the repository")
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tools" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    outputs = generate.outputs()
    stale = [path.name for path, text in outputs.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run tools/generate.py"
    twins = {path.name for path in outputs if path.parent.name == "_sync"} | {"__init__.py", "_caller.py"}
    assert {path.name for path in (ROOT / "src" / "isthmus" / "_sync").glob("*.py")} == twins


def test_every_field_and_method_of_the_types_is_there():
    text = (ROOT / "src" / "isthmus" / "_wire.pyi").read_text(encoding="utf-8")
    names = [line.split()[1].split("(")[0].rstrip(":") for line in text.splitlines() if line.startswith("class ")]
    assert len(names) > 100
    assert all(hasattr(wire, name) for name in names)
    assert wire.ProfileService.Get.path == "/isthmus.v1.ProfileService/Get"


def test_every_name_of_the_package_is_documented():
    bare = [name for name in isthmus.__all__ if name not in ("AnyEvent", "Key") and not getattr(isthmus, name).__doc__]
    assert bare == []
