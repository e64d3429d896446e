"""An answer that began elsewhere: what the engine is asked, and what the client's end says."""

import msgspec
import pytest

from moonpool.contracts.continuation import Begun, Untold
from moonpool.core.errors import BadRequest, Conflict
from moonpool.openai.parse import parse
from moonpool.services.inference.engine import Finished, Piece
from moonpool.services.inference.schema import ChatRequest, TextRequest

HEAD = {"id": "chatcmpl-1", "created": 7, "fingerprint": "fp_r1"}
REST = [
    Piece(text="lo", tokens=(9,), count=1),
    Piece(text="🎉", count=3),
    Finished(reason="stop", prompt_tokens=40, cached_tokens=38, completion_tokens=5),
]


def chat(**change) -> ChatRequest:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    return parse(ChatRequest, msgspec.json.encode({**body, **change}))


def text(**change) -> TextRequest:
    return parse(
        TextRequest, msgspec.json.encode({"model": "tiny", "prompt": "Oh", "stream": True, **change})
    )


async def events(stream) -> list[bytes]:
    return [event + b"\n\n" async for events in stream for event in events.split(b"\n\n")[:-1]]


def chunk(event: bytes) -> dict:
    return msgspec.json.decode(event.split(b"\n")[0][6:])


async def test_a_traced_stream_tells_its_tokens(inference, engine) -> None:
    engine.steps = REST
    found = await events(inference.chat_events(chat(), traced=True))
    assert [event.split(b"\n")[1] for event in found] == [b"", b":k=9", b":k=~3", b"", b""]
    assert engine.asked[0][1].traced


async def test_without_being_asked_nothing_is_told(inference, engine) -> None:
    assert b":k=" not in b"".join(await events(inference.chat_events(chat())))
    assert not engine.asked[0][1].traced


async def test_the_model_reads_prompt_and_answer_and_writes_on(inference, engine) -> None:
    engine.steps = REST
    request = chat(max_tokens=20, stream_options={"include_usage": True})
    begun = Begun(answer=[5, Untold("é", 2), 6], **HEAD)
    found = await events(inference.continued_chat(request, begun))
    prompt, sampling = engine.asked[0]
    assert prompt == [*engine.PROMPT, 5, ord("é"), 6]
    assert (sampling.max_tokens, sampling.traced) == (16, True)
    first = chunk(found[0])
    assert (first["id"], first["created"], first["choices"][0]["delta"]) == (
        "chatcmpl-1",
        7,
        {"content": "lo"},
    )
    assert found[0].split(b"\n")[1] == b":k=9"
    usage = chunk(found[-2])["usage"]
    size = len(engine.PROMPT)
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (size, 9)
    assert usage["prompt_tokens_details"]["cached_tokens"] == size
    assert found[-1] == b"data: [DONE]\n\n"


async def test_an_answer_that_was_complete_is_ended(inference, engine) -> None:
    request = chat(max_tokens=3, stream_options={"include_usage": True})
    found = await events(inference.continued_chat(request, Begun(answer=[5, 6, 7], **HEAD)))
    assert engine.asked == []
    assert chunk(found[0])["choices"][0]["finish_reason"] == "length"
    assert chunk(found[1])["usage"]["completion_tokens"] == 3


async def test_an_answer_that_filled_the_context_is_ended(inference, engine) -> None:
    found = await events(inference.continued_chat(chat(), Begun(answer=[5] * 100, **HEAD)))
    assert engine.asked == []
    assert chunk(found[0])["choices"][0]["finish_reason"] == "length"


async def test_rates_are_those_of_what_ran_here(inference, engine, model) -> None:
    engine.steps = [
        Finished(reason="stop", prompt_tokens=40, cached_tokens=0, completion_tokens=10, decode_seconds=1.0)
    ]
    await events(inference.continued_chat(chat(), Begun(answer=[5] * 30, **HEAD)))
    assert model.rates.decode == 10


@pytest.mark.parametrize(
    "change", [{"n": 2}, {"response_format": {"type": "json_object"}}], ids=["choices", "format"]
)
async def test_what_cannot_be_continued(inference, change) -> None:
    with pytest.raises(BadRequest) as caught:
        await events(inference.continued_chat(chat(**change), Begun(answer=[1], **HEAD)))
    assert caught.value.code == "not_continuable"


async def test_another_revision_refuses(inference) -> None:
    with pytest.raises(Conflict):
        await events(inference.continued_chat(chat(), Begun(answer=[1], fingerprint="fp_r0")))


async def test_a_completion(inference, engine) -> None:
    engine.steps = REST
    found = await events(inference.text_events(text(max_tokens=9), begun=Begun(answer=[5], **HEAD)))
    assert engine.asked[0][0] == [ord("O"), ord("h"), 5]
    assert engine.asked[0][1].max_tokens == 8
    assert chunk(found[0])["choices"][0]["text"] == "lo"
    with pytest.raises(BadRequest):
        await events(inference.text_events(text(echo=True), begun=Begun(answer=[5], **HEAD)))
