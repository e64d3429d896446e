"""The whole path to a fault: msgspec writes `$.metadata[...]` for any key of a mapping. Pure.

It is asked which key it meant, with one half of the mapping at a time: a few looks at documents that are
refused, however many keys they have.
"""

import json
import re

import msgspec

_STEP = re.compile(r"\.(?P<key>\w+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")
_PATH = re.compile(r"`\$(?P<path>[^`]*)`$")
LONGEST_KEY = 64
"""Characters of a client's key that are repeated to him."""

Path = tuple[str | int, ...]


def with_keys(schema: type, body: bytes, told: str) -> str:
    """`told`, msgspec's error about `body`, with the keys in the places of dots."""
    matched = _PATH.search(told)
    if matched is None or "[...]" not in matched["path"]:
        return told
    data = msgspec.json.decode(body)
    path: Path = ()
    spelled = ""
    for step in _STEP.finditer(matched["path"]):
        if step["any"] is None:
            path = (*path, int(step["index"]) if step["index"] else step["key"])
            spelled += step[0]
            continue
        key = _guilty(schema, data, path, told)
        path = (*path, key)
        spelled += f"[{json.dumps(key[:LONGEST_KEY], ensure_ascii=False)}]"
    return f"{told[: matched.start('path')]}{spelled}`"


def _guilty(schema: type, data: object, path: Path, told: str) -> str:
    inside = data
    for part in path:
        inside = inside[part]  # type: ignore[index]
    assert isinstance(inside, dict)
    keys = list(inside)
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        alone = _only(data, path, {key: inside[key] for key in half})
        keys = half if _says(schema, alone, told) else keys[len(half) :]
    return str(keys[0])


def _says(schema: type, data: object, told: str) -> bool:
    try:
        msgspec.convert(data, schema)
    except msgspec.ValidationError as error:
        return str(error) == told
    return False


def _only(data: object, path: Path, mapping: dict[str, object]) -> object:
    """`data` with `mapping` in the place of what stands at `path`."""
    if not path:
        return mapping
    inner = _only(data[path[0]], path[1:], mapping)  # type: ignore[index]
    if isinstance(data, dict):
        return {**data, path[0]: inner}
    assert isinstance(data, list)
    return [inner if index == path[0] else item for index, item in enumerate(data)]
