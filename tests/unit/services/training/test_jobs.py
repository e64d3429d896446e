"""Fine-tuning jobs over HTTP: accepted, told honestly, cancelled once, and no other tenant's."""

from typing import Any

import msgspec
import pytest

from moonpool.core.principal import Principal, Role
from moonpool.services.training.schema import OPEN, Status
from moonpool.services.training.service import NO_WORKER, Training
from moonpool.services.training.store import Store

JOBS = "/v1/fine_tuning/jobs"
NEW = {"model": "smollm2", "training_file": "file_1"}
OTHER = Principal(user="user_member", tenant="org_other", role=Role.OWNER)


@pytest.fixture
async def training(make_parts: Any, run_service: Any) -> Any:
    return await run_service(await make_parts("training"))


async def create(training: Any, **fields: Any) -> Any:
    answer = await training.call("POST", JOBS, json={**NEW, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_job_is_queued_and_says_that_nobody_works(training: Any) -> None:
    job = await create(training, suffix="mine", seed=7, metadata={"a": "b"})
    assert job["id"].startswith("ftjob_")
    assert (job["object"], job["status"]) == ("fine_tuning.job", "queued")
    assert (job["seed"], job["suffix"], job["metadata"]) == (7, "mine", {"a": "b"})
    assert (job["organization_id"], job["fine_tuned_model"], job["result_files"]) == ("org_test", None, [])
    assert (await training.call("GET", f"{JOBS}/{job['id']}")).json() == job
    events = (await training.call("GET", f"{JOBS}/{job['id']}/events")).json()
    assert [(event["level"], event["object"]) for event in events["data"]] == [
        ("warn", "fine_tuning.job.event"),
        ("info", "fine_tuning.job.event"),
    ]
    assert events["data"][0]["message"] == NO_WORKER


@pytest.mark.parametrize(
    "fields",
    [
        {"hyperparameters": {"n_epochs": 3, "batch_size": "auto"}},
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}},
    ],
)
async def test_hyperparameters_may_stand_in_two_places(training: Any, fields: dict[str, Any]) -> None:
    job = await create(training, **fields)
    assert job["hyperparameters"] == job["method"]["supervised"]["hyperparameters"]
    assert job["hyperparameters"] == {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": "auto"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"training_file": ""}, "training_file"),
        ({"validation_file": "file_1"}, "validation_file"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters"),
        ({"hyperparameters": {"epochs": 1}}, "hyperparameters"),
        ({"hyperparameters": {}, "method": {}}, "hyperparameters"),
        ({"method": {"type": "dpo"}}, "method"),
        ({"suffix": "no spaces"}, "suffix"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"seed": -1}, "seed"),
    ],
)
async def test_bad_values_are_refused_by_name(training: Any, fields: dict[str, Any], param: str) -> None:
    answer = await training.call("POST", JOBS, json={**NEW, **fields})
    assert answer.status_code == 400, answer.text
    assert param in (answer.json()["error"]["param"] or "") + answer.json()["error"]["message"]
    assert (await training.call("GET", JOBS)).json()["data"] == []


async def test_cancel_is_told_and_happens_once(training: Any) -> None:
    id = (await create(training))["id"]
    training.parts.clock.advance(5.0)
    for _ in range(2):
        job = (await training.call("POST", f"{JOBS}/{id}/cancel")).json()
        assert (job["status"], job["finished_at"] - job["created_at"]) == ("cancelled", 5)
    events = (await training.call("GET", f"{JOBS}/{id}/events?limit=1")).json()
    assert [event["message"] for event in events["data"]] == ["The job was cancelled."]
    assert events["has_more"] is True
    rest = (await training.call("GET", f"{JOBS}/{id}/events?after={events['data'][0]['id']}")).json()
    assert len(rest["data"]) == 2


async def test_a_job_that_has_ended_cannot_be_cancelled(training: Any, member: Principal) -> None:
    id = (await create(training))["id"]
    store = Store(training.parts.database, training.parts.clock)
    ended = msgspec.structs.replace(await store.find(member.tenant, id), status=Status.SUCCEEDED)
    event = Training(store, training.parts.clock)._event("info", "done")
    assert await store.move(member.tenant, id, among=OPEN, to=ended, event=event)
    answer = await training.call("POST", f"{JOBS}/{id}/cancel")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "job_not_cancellable"


async def test_the_list_pages(training: Any) -> None:
    ids = []
    for _ in range(3):
        ids.append((await create(training))["id"])
        training.parts.clock.advance(1.0)
    page = (await training.call("GET", f"{JOBS}?limit=2")).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = (await training.call("GET", f"{JOBS}?after={ids[1]}")).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([ids[0]], False)


async def test_nobody_elses(training: Any) -> None:
    id = (await create(training))["id"]
    attempts = ("GET", ""), ("GET", "/events"), ("POST", "/cancel")
    for method, path in attempts:
        answer = await training.call(method, f"{JOBS}/{id}{path}", caller=OTHER)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "job_not_found"
    assert (await training.call("GET", JOBS, caller=OTHER)).json()["data"] == []
    assert (await training.call("GET", f"{JOBS}/{id}")).json()["status"] == "queued"


async def test_a_request_that_arrives_again_makes_no_other_job(training: Any) -> None:
    """As a dead letter is replayed: its process was killed between the job and the answer."""
    first = await training.call("POST", JOBS, json=NEW, headers={"x-request-id": "req_1"})
    cancelled = (await training.call("POST", f"{JOBS}/{first.json()['id']}/cancel")).json()
    again = {"x-request-id": "req_1", "idempotency-key": "req_1"}
    assert (await training.call("POST", JOBS, json=NEW, headers=again)).json() == cancelled
    assert [job["id"] for job in (await training.call("GET", JOBS)).json()["data"]] == [cancelled["id"]]

    another = await training.call("POST", JOBS, json=NEW, headers={"x-request-id": "req_2"})
    assert another.json()["id"] != cancelled["id"]
    refused = await training.call("POST", JOBS, json={**NEW, "seed": 1}, headers=again)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
