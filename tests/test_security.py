"""What SECURITY.md promises of the kit's own code, read off its syntax and tried on the files it warns of."""

from __future__ import annotations

import ast
import struct
import zlib
from pathlib import Path

import nbformat
import pytest

from kit.data.picture import decode_file

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "kit").rglob("*.py"))}
SOURCES |= {p: "\n".join(c.source for c in nbformat.read(p, 4).cells if c.cell_type == "code") for p in NOTEBOOKS}
LOADS_CODE = {ROOT / "kit" / "networks" / "named.py": {"compile", "exec"}}  # a network's file: its reader's own program

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "subprocess", "pty",
                  "xml.dom", "xml.sax", "lxml", "yaml", "socket", "urllib.request", "requests", "httpx"}  # fmt: skip
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.save",
                "pd.read_pickle", "tarfile.open", "zipfile.ZipFile", "shutil.unpack_archive"}  # fmt: skip


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def found_in(source: str) -> set[str]:
    """The unsafe modules that a source imports and the unsafe calls that it makes."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found |= {bad for name in names for bad in UNSAFE_MODULES if name == bad or name.startswith(f"{bad}.")}
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            tensors_alone = isinstance(alone := keywords.get("weights_only"), ast.Constant) and alone.value is True
            found |= {dotted(node.func)} & (UNSAFE_CALLS - ({"torch.load"} if tensors_alone else set()))
            for risky in ("allow_pickle", "shell"):
                if risky in keywords and not (isinstance(keywords[risky], ast.Constant) and not keywords[risky].value):
                    found.add(risky)
    return found


def test_the_kit_unpickles_nothing_and_starts_no_shell():
    assert len(SOURCES) > 50
    for path, source in SOURCES.items():
        assert found_in(source) == LOADS_CODE.get(path, set()), path


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from xml.sax import parse", "eval(x)", "torch.load(p)", "np.load(p, allow_pickle=True)",
     "torch.load(p, weights_only=False)", "run(x, shell=flag)", "import os\nos.system('ls')"],
)  # fmt: skip
def test_what_is_looked_for_would_be_found(source):
    assert found_in(source)


def test_the_laboratory_listens_on_this_machine_alone_and_asks_for_its_token():
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "jupyter lab " in line]
    assert "--ip=127.0.0.1" in line
    assert "token" not in line
    assert "password" not in line


def test_an_image_that_would_fill_the_memory_is_left_out(tmp_path):
    """A PNG of 69 bytes that says it has 60,000 × 60,000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    decoded = decode_file(tmp_path / "bomb.png", 8)
    assert decoded.pixels is None
    assert "decompression bomb" in decoded.reason
