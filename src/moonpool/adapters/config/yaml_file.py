"""YAML as plain data with the line of every part.

A safe subset: text keys, no key twice (YAML readers usually let the last one win in silence), no merge
keys, no recursion. Anything else that YAML's safe schema has is passed on; the types are checked later.
"""

from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from moonpool.contracts.documents.place import Document, spell
from moonpool.core.errors import StartupError
from moonpool.ports.config import Path

if TYPE_CHECKING:
    import yaml

_MAX_BYTES = 4 * 1024 * 1024
_MAX_NODES = 100_000
"""Aliases make a small file a huge document."""
_MAX_DEPTH = 50
_SYNTAX = "Look there and in the line before: indent with blanks, never tabs, and close what was opened."


def read_yaml(file: FilePath) -> Document:
    """Raises StartupError with file and line."""
    try:
        raw = file.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise StartupError(
            f"the configuration cannot be read: {error.strerror}",
            where=str(file),
            hint="Give --config the path of a readable YAML file.",
        ) from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise StartupError(
            "the file is not UTF-8 text", where=f"{file}:{line}", hint="Save it as UTF-8."
        ) from error
    if len(raw) > _MAX_BYTES:
        raise StartupError("the file is too large to be a configuration", where=str(file))
    return parse_yaml(text, str(file))


def parse_yaml(text: str, source: str) -> Document:
    """Raises StartupError with `source` and line. An empty document is an empty mapping."""
    import yaml  # only here: a platform without a file needs no YAML

    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            return _Reader(loader, source).read(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = source if mark is None else f"{source}:{mark.line + 1}"
        raise StartupError(
            f"this is not YAML: {error.problem or error.context}", where=where, hint=_SYNTAX
        ) from error
    except RecursionError:  # the parser's own, long before a depth of ours
        raise StartupError(
            "the document is nested too deeply", where=source, hint=f"At most {_MAX_DEPTH} levels are read."
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # characters it cannot have; dates there are not
        raise StartupError(
            f"this is not YAML: {str(error).splitlines()[0]}", where=source, hint=_SYNTAX
        ) from error


class _Reader:
    def __init__(self, loader: "yaml.SafeLoader", source: str) -> None:
        self._loader = loader
        self._source = source
        self._nodes = 0
        self._document = Document(source)

    def read(self, root: "yaml.Node | None") -> Document:
        self._document.data = {} if root is None else self._read(root, ())
        if self._document.data is None:  # only comments and `---`
            self._document.data = {}
        return self._document

    def _read(self, node: "yaml.Node", path: Path) -> object:
        import yaml

        self._nodes += 1
        if len(path) > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise self._error("the document is nested too deeply, or refers to itself", node)
        self._document.places.setdefault(path, self._place(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._read(item, (*path, index)) for index, item in enumerate(node.value)]
        value: object = self._loader.construct_object(node, deep=True)
        return value

    def _mapping(self, node: "yaml.MappingNode", path: Path) -> dict[str, object]:
        import yaml

        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise self._error("merge keys (<<) are not supported", key_node)
            key = self._loader.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                hint = "Put it into quotes." if isinstance(key_node, yaml.ScalarNode) else None
                raise self._error("a key must be text", key_node, hint)
            inner = (*path, key)
            if key in found:
                before = self._document.where(inner)
                raise self._error(
                    f"{spell(inner)} is there twice, first at {before}", key_node, "Remove one of them."
                )
            # A whole section is looked for where its key stands, a value where it stands itself.
            scalar = isinstance(value_node, yaml.ScalarNode)
            self._document.places[inner] = self._place(value_node if scalar else key_node)
            found[key] = self._read(value_node, inner)
        return found

    def _place(self, node: "yaml.Node") -> str:
        return f"{self._source}:{node.start_mark.line + 1}"

    def _error(self, message: str, node: "yaml.Node", hint: str | None = None) -> StartupError:
        return StartupError(message, where=self._place(node), hint=hint)
