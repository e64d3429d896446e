"""Routes in the configuration are checked where the services' manifests are known: in files, and by the
config server."""

from pathlib import Path

import pytest

from moonpool.configserver.judging import Judge
from moonpool.contracts.documents.kinds import Kinds
from moonpool.contracts.documents.validation import DocumentFault
from moonpool.core.errors import StartupError
from moonpool.wiring.configuration import KEPT, load_config, starting_config
from moonpool.wiring.documents import load_kinds

GOOD: dict[str, object] = {"routes": {"POST /v1/embeddings": {"timeouts": {"total": 5}}}}
UNKNOWN: dict[str, object] = {"routes": {"POST /v1/embedings": {"timeouts": {"total": 5}}}}


@pytest.fixture
def judge() -> Judge:
    return Judge(Kinds([KEPT]), {})


def test_the_config_server_has_this_kind() -> None:
    assert load_kinds().find("platform") is KEPT


def test_a_route_that_no_service_has_is_refused_with_its_place(judge: Judge) -> None:
    assert judge.judge("platform", {}, GOOD).restart == []
    with pytest.raises(DocumentFault, match="no service has the route POST /v1/embedings") as refused:
        judge.judge("platform", GOOD, UNKNOWN)
    assert refused.value.param == 'routes."POST /v1/embedings"'
    assert "Did you mean POST /v1/embeddings" in (refused.value.hint or "")


def test_what_another_package_took_does_not_stand_in_the_way(judge: Judge) -> None:
    limits: dict[str, object] = {"limits": {"default": {"concurrent": 5}}}
    assert judge.judge("platform", UNKNOWN, {**UNKNOWN, **limits}).changes
    with pytest.raises(DocumentFault, match="no service has the route"):
        judge.judge("platform", UNKNOWN, {"routes": {"POST /v1/embedings": {"enabled": False}}})


def test_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("gateway: {port: 0}\nroutes:\n  POST /v1/embeddings: {scope: files}\n")
    for load in (load_config, lambda path: starting_config(path, tmp_path)):
        with pytest.raises(StartupError, match="a scope that is needed already") as refused:
            load(str(file))
        assert refused.value.where == f"{file}:3"
