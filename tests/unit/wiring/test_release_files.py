from moonpool.contracts.releases import EnvironmentSource, Release
from moonpool.wiring.release_files import RELEASES, missing


def test_an_environment_must_be_there(tmp_path) -> None:
    source = EnvironmentSource(path=str(tmp_path))
    release = Release(service="chat", label="v2", source=source)
    assert missing(release) == f"its virtual environment is gone: {tmp_path}"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert missing(release) == ""
    assert missing(Release(service="chat", label="v2")) == ""


def test_the_kind_asks() -> None:
    assert RELEASES.name == "releases/*"
