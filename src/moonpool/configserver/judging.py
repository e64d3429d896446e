"""What a change would mean, before it is made. Pure, but for the environment that is handed in."""

from collections.abc import Mapping

import msgspec

from moonpool.configserver.views import Setting
from moonpool.contracts.documents.diff import Change, diff, differences, with_value, without
from moonpool.contracts.documents.environment import apply_environment
from moonpool.contracts.documents.kinds import AnyKind, Kinds
from moonpool.contracts.documents.place import Document, parse_path, spell
from moonpool.contracts.documents.schema import convert, describe, type_at
from moonpool.contracts.documents.validation import DocumentFault, fault_of, validate
from moonpool.core.errors import NotFound, StartupError
from moonpool.ports.config import Others, Path

Content = dict[str, object]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """`restart`, `shadowed` and `lost` as in views.Outcome."""

    changes: list[Change]
    restart: list[str]
    shadowed: list[str]
    lost: list[str]


class Judge:
    """`environ` is the environment that processes lay over their configuration."""

    def __init__(self, kinds: Kinds, environ: Mapping[str, str]) -> None:
        self._kinds = kinds
        self._environ = dict(environ)

    def kind(self, name: str) -> AnyKind:
        """Raises NotFound."""
        found = self._kinds.find(name)
        if found is None:
            known = ", ".join(kind.name for kind in self._kinds)
            raise NotFound(
                f"There is no document {name[:140]!r}.",
                code="unknown_document",
                param="name",
                hint=f"There are: {known}.",
            )
        return found

    def judge(
        self,
        name: str,
        old: Content | None,
        new: Content,
        started: Content | None = None,
        others: Others = lambda name: None,
    ) -> Judgement:
        """`started` is what the platform was started with: what it has loaded needs no other start.

        Raises DocumentFault for what cannot be, also together with the environment and the other documents.
        """
        kind = self.kind(name)
        wanted = validate(Document(name, new), kind, name)
        for problem in kind.change(name, wanted, _readable(name, kind, old), others):
            raise fault_of(problem)
        effective, shadows = self._effective(name, kind, new)
        changed = [path for path, _, _ in differences(old or {}, new)]
        restart: list[Path] = []
        lost: list[str] = []
        if old is not None:
            before = self._before(name, kind, old)
            began = before if started is None else self._before(name, kind, started)
            if began is not None:
                restart = [path for path in kind.restart(began, effective) if _within(path, changed)]
                lost = list(kind.lost(began, effective if before is None else before, effective))
        return Judgement(
            changes=diff(old or {}, new),
            restart=[spell(path) for path in restart],
            shadowed=[spell(path) for path in changed if _within(path, shadows)],
            lost=lost,
        )

    def _before(self, name: str, kind: AnyKind, content: Content) -> object:
        """None when what was there cannot be read any more: it must not stand in the way of what mends it."""
        try:
            return self._effective(name, kind, content)[0]
        except DocumentFault:
            return None

    def _effective(self, name: str, kind: AnyKind, content: Content) -> tuple[object, list[Path]]:
        """The document as processes see it, and the places that the environment has set."""
        document = Document(name, msgspec.json.decode(msgspec.json.encode(content)))
        if not kind.environment:
            return validate(document, kind, name), []
        try:
            apply_environment(document, self._environ)
        except StartupError as error:
            raise DocumentFault((), f"{error.where}: {error.message}", error.hint) from error
        shadows = list(document.places)
        try:
            return validate(document, kind, name), shadows
        except DocumentFault as fault:
            variable = document.where(fault.path)
            message = fault.message if variable == name else f"{fault.message} (with {variable})"
            raise DocumentFault(fault.path, message, fault.hint) from fault

    def edited(
        self, name: str, content: Content, settings: tuple[Setting, ...], unset: tuple[str, ...]
    ) -> Content:
        """A copy of `content` with these changes. Raises DocumentFault for a path that is none."""
        kind = self.kind(name)
        data: object = content
        for text in unset:
            data = without(data, _parse(text))
        for setting in settings:
            path = _parse(setting.path)
            data = with_value(data, path, _value(setting, kind, path))
        if not isinstance(data, dict):
            raise DocumentFault((), "a document is settings", 'Give a JSON object for the path "".')
        return data


def _readable(name: str, kind: AnyKind, old: Content | None) -> object:
    """None also for what an older version of this package took and this one does not."""
    try:
        return None if old is None else validate(Document(name, old), kind, name)
    except DocumentFault:
        return None


def _parse(text: str) -> Path:
    try:
        return parse_path(text)
    except ValueError as error:
        raise DocumentFault((), str(error), 'Names with dots stand in quotes: models."gpt-4.1".') from error


def _value(setting: Setting, kind: AnyKind, path: Path) -> object:
    if setting.text is None:
        return setting.value
    try:
        return convert(setting.text, shape=kind.shape, path=path)
    except ValueError as error:
        found = describe(type_at(kind.shape, path))
        if found is None:  # nothing belongs there: say that, and not what the text looks like
            return setting.text
        raise DocumentFault(
            path, f"{spell(path)} cannot be {setting.text!r}", f"Allowed: {error}."
        ) from error


def _within(path: Path, places: list[Path]) -> bool:
    return any(path[: len(place)] == place or place[: len(path)] == path for place in places)
