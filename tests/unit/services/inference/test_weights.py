"""Where the weights are, and what is said when they are not."""

from importlib import metadata
from pathlib import Path

import msgspec
import pytest

from moonpool.contracts.config import ModelConfig
from moonpool.core.errors import StartupError
from moonpool.services.inference import weights


def models(**targets: dict[str, str]) -> dict[str, ModelConfig]:
    return {alias: msgspec.convert({"targets": [target]}, ModelConfig) for alias, target in targets.items()}


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    return path


def test_local_targets_only(gguf: Path) -> None:
    found = weights.local_models(models(mine={"local": str(gguf)}, theirs={"url": "http://x/v1"}))
    assert found == {"mine": gguf}


def test_only_remote_models_need_no_weights() -> None:
    assert weights.local_models(models(theirs={"url": "http://x/v1"})) == {}


def test_a_missing_file_says_which_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StartupError) as caught:
        weights.local_models(models(mine={"local": str(tmp_path / "gone.gguf")}))
    text = str(caught.value)
    assert "gone.gguf" in text
    assert "models.mine" in text
    assert "Correct the path" in text
    assert "pip install" not in text


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(StartupError, match="not a GGUF file"):
        weights.local_models(models(mine={"local": str(path)}))


def test_without_models_the_packaged_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(StartupError, match="not installed") as caught:
        weights.local_models({})
    assert "moonpool[local]" in str(caught.value)


def test_the_packaged_model_can_stand_beside_others() -> None:
    named = weights.local_models(models(small={"local": "packaged"}))
    assert named["small"] == weights.local_models({})["smollm2"]
