"""Reading the chain of migrations without Alembic."""

from pathlib import Path

import pytest

from moonpool.adapters.database.revisions import read_revisions
from moonpool.core.errors import StartupError

ROOT = 'revision = "1"\ndown_revision = None\n'


def write(folder: Path, **scripts: str) -> Path:
    (folder / "versions").mkdir()
    for name, text in scripts.items():
        (folder / "versions" / f"{name}.py").write_text(text)
    return folder


def test_the_order_is_that_of_descent(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        a="revision: str = 'three'\ndown_revision: str | None = 'two'  # annotated, single quotes\n",
        b='"""Doc: revision = "no"."""\nrevision = "one"\ndown_revision = None\n',
        c='down_revision = "one"\nrevision = "two"\n',
        __init__="",
    )
    assert read_revisions(folder).known == ("one", "two", "three")
    assert read_revisions(folder).head == "three"


def test_what_an_earlier_migration_took_a_later_one_does_not_give_back(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        a=ROOT,
        b='revision = "2"\ndown_revision = "1"\ncompatible_from = "1"\n',
        c='revision = "3"\ndown_revision = "2"\n',
        d='revision = "4"\ndown_revision = "3"\ncompatible_from: str = "2"  # of which 3 knows better\n',
    )
    assert read_revisions(folder).oldest == ("1", "1", "3", "3")


def test_no_folder_no_revisions(tmp_path: Path) -> None:
    assert read_revisions(tmp_path / "absent").head is None


@pytest.mark.parametrize(
    ("scripts", "message"),
    [
        ({"a": 'revision = "1"\n'}, "must assign"),
        ({"a": "x = 1\n"}, "must assign"),
        (
            {"a": 'revision = "1"\ndown_revision = None\n', "b": 'revision = "2"\ndown_revision = None\n'},
            "both",
        ),
        ({"a": 'revision = "2"\ndown_revision = "1"\n'}, "lead back"),
        ({"a": ROOT + 'compatible_from = "2"\n'}, "no migration before it"),
    ],
)
def test_what_is_not_one_line_of_descent_is_refused(
    tmp_path: Path, scripts: dict[str, str], message: str
) -> None:
    with pytest.raises(StartupError, match=message):
        read_revisions(write(tmp_path, **scripts))
