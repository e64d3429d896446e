"""This package as a wheel, with what a test changes in it: what a later version of it may be."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import moonpool

ROOT = Path(moonpool.__file__).parent


def wheel(folder: Path, version: str, changed: Mapping[str, str]) -> Path:
    """`changed` are texts by their path in the package (`services/chat/tables.py`), new files too."""
    made = folder / f"moonpool-{version}-py3-none-any.whl"
    info = f"moonpool-{version}.dist-info"
    files = {
        f"moonpool/{file.relative_to(ROOT)}": file.read_bytes()
        for file in sorted(ROOT.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    files |= {f"moonpool/{path}": text.encode() for path, text in changed.items()}
    metadata = f"Metadata-Version: 2.1\nName: moonpool\nVersion: {version}\nRequires-Dist: msgspec\n"
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    return made
