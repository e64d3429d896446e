"""The domain over a fake engine: usage, choices, slots, refusals."""

import asyncio
import math
from contextlib import aclosing

import msgspec
import pytest

from moonpool.core.errors import BadRequest, InternalError, MoonpoolError, NotFound, Overloaded
from moonpool.openai.chunks import FunctionCall, ToolCall
from moonpool.openai.schema import EmbeddingRequest
from moonpool.services.inference.engine import Finished, Piece
from moonpool.services.inference.schema import ChatRequest, TextRequest
from moonpool.services.inference.service import Inference

END = Finished(reason="stop", prompt_tokens=10, cached_tokens=4, completion_tokens=2)


def chat(**fields: object) -> ChatRequest:
    messages = [{"role": "user", "content": "Hi"}]
    return msgspec.convert({"model": "tiny", "messages": messages, **fields}, ChatRequest)


def text(prompt: object, **fields: object) -> TextRequest:
    return msgspec.convert({"model": "tiny", "prompt": prompt, **fields}, TextRequest)


def embedding(value: object, **fields: object) -> EmbeddingRequest:
    return msgspec.convert({"model": "tiny", "input": value, **fields}, EmbeddingRequest)


async def decoded(events) -> list:
    """The objects of a stream's events; "[DONE]" stands for itself."""
    found = []
    async with aclosing(events):
        async for data in events:
            for event in data.removesuffix(b"\n\n").split(b"\n\n"):
                assert event.startswith(b"data: ")
                content = event[6:]
                found.append("[DONE]" if content == b"[DONE]" else msgspec.json.decode(content))
    return found


async def test_a_whole_answer(inference: Inference, engine) -> None:
    answer = await inference.chat(chat())
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_cache_hit_tokens == 4
    assert answer.usage.prompt_cache_miss_tokens == 6
    assert answer.created == 1_700_000_000
    assert answer.id.startswith("chatcmpl-")
    assert engine.generations[0].closed


async def test_usage_of_choices_counts_the_prompt_once(inference: Inference) -> None:
    answer = await inference.chat(chat(n=3))
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (10, 6)


async def test_usage_of_prompts_counts_each(inference: Inference, engine) -> None:
    answer = await inference.complete(text(["a", "b"], n=2))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 8)
    assert [prompt for prompt, _ in engine.asked] == ["a", "a", "b", "b"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


async def test_a_stream_with_usage(inference: Inference, clock) -> None:
    events = inference.chat_events(chat(stream=True, stream_options={"include_usage": True}))
    async with aclosing(events):
        first = await anext(events)
        clock.advance(5)
        rest = b"".join([event async for event in events])
    objects = [msgspec.json.decode(event[6:]) for event in (first + rest).split(b"\n\n")[:-2]]
    assert rest.endswith(b"data: [DONE]\n\n")
    assert {chunk["created"] for chunk in objects} == {1_700_000_000}
    assert [chunk["usage"] for chunk in objects[:-1]] == [None] * (len(objects) - 1)
    assert objects[-1]["choices"] == []
    assert objects[-1]["usage"]["total_tokens"] == 12
    assert objects[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert objects[-2]["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_of_several_choices(inference: Inference) -> None:
    *chunks, done = await decoded(inference.chat_events(chat(stream=True, n=2)))
    assert done == "[DONE]"
    for index in range(2):
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in mine) == "Hello"
        assert mine[0]["delta"]["role"] == "assistant"
        assert mine[-1]["finish_reason"] == "stop"
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_failure_in_the_middle_ends_the_stream_without_done(inference: Inference, engine) -> None:
    engine.steps = [Piece(text="Hel"), InternalError("The engine failed.")]
    events = inference.chat_events(chat(stream=True))
    assert b"assistant" in await anext(events)
    with pytest.raises(InternalError):
        await anext(events)
    assert engine.generations[0].closed


async def test_closing_a_stream_frees_the_slot(inference: Inference, model, engine) -> None:
    engine.gate = asyncio.Semaphore(1)
    events = inference.chat_events(chat(stream=True))
    await anext(events)
    assert model.slots.running == 1
    await events.aclose()
    assert model.slots.running == 0
    assert engine.generations[0].cancelled


async def test_a_cancelled_answer_frees_the_slot_when_the_engine_is_done(
    inference: Inference, model, engine, settle
) -> None:
    engine.gate = asyncio.Semaphore(0)
    task = asyncio.create_task(inference.chat(chat()))
    await settle()
    closing = asyncio.Event()
    engine.generations[0].wait_closed = closing.wait
    task.cancel()
    await settle()
    task.cancel()  # a second time, as impatient servers do
    await settle()
    assert model.slots.running == 1
    assert not task.done()
    closing.set()
    await settle()
    assert task.cancelled()
    assert model.slots.running == 0


async def test_the_queue_is_bounded(inference: Inference, engine, settle) -> None:
    engine.gate = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(inference.chat(chat())) for _ in range(2)]
    await settle()
    with pytest.raises(Overloaded):
        await inference.chat(chat())
    load = inference.load()["tiny"]
    assert (load.running, load.waiting, load.slots) == (1, 1, 1)
    for _ in range(6):
        engine.gate.release()
    await asyncio.gather(*tasks)


async def test_an_unknown_model(inference: Inference) -> None:
    for call in (inference.chat(chat(model="gpt-9")), inference.embed(embedding("x", model="gpt-9"))):
        with pytest.raises(NotFound) as caught:
            await call
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(("kind", "param"), [("chat", "messages"), ("text", "prompt")])
async def test_an_over_long_prompt_is_blamed_on_its_field(inference, engine, kind, param) -> None:
    engine.steps = [BadRequest("Too long.", code="context_length_exceeded")]
    with pytest.raises(BadRequest) as caught:
        await (inference.chat(chat()) if kind == "chat" else inference.complete(text("x")))
    assert caught.value.param == param


async def test_tool_calls_come_together(inference: Inference, engine) -> None:
    def piece(index: int, arguments: str, **more: str) -> Piece:
        call = FunctionCall(arguments=arguments, **({"name": more.pop("name")} if "name" in more else {}))
        return Piece(tool_calls=(ToolCall(index=index, function=call, **more),))

    engine.steps = [
        piece(0, '{"a"', id="call_1", type="function", name="f"),
        piece(0, ":1}"),
        piece(1, "{}", id="call_2", type="function", name="g"),
        Finished(reason="tool_calls", prompt_tokens=1, cached_tokens=0, completion_tokens=9),
    ]
    message = (await inference.chat(chat())).choices[0].message
    assert message.content is None
    assert msgspec.to_builtins(message.tool_calls) == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


async def test_thoughts_are_apart_and_counted(inference: Inference, engine) -> None:
    engine.steps = [Piece(reasoning="hm"), Piece(reasoning="…"), Piece(text="Yes"), END]
    answer = await inference.chat(chat())
    assert answer.choices[0].message.reasoning_content == "hm…"
    assert answer.choices[0].message.content == "Yes"
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2


async def test_echo_says_the_prompt_first(inference: Inference) -> None:
    assert (await inference.complete(text("Oh. ", echo=True))).choices[0].text == "Oh. Hello"
    assert (await inference.complete(text([79, 104], echo=True))).choices[0].text == "OhHello"
    *chunks, _ = await decoded(inference.text_events(text("Oh. ", echo=True, stream=True)))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Oh. Hello"


async def test_no_tokens_count_the_prompt_only(inference: Inference, engine) -> None:
    answer = await inference.complete(text("four", max_tokens=0))
    assert engine.asked == []
    assert answer.choices[0].text == ""
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 0)


async def test_vectors(inference: Inference) -> None:
    whole = await inference.embed(embedding(["ab", "c"]))
    assert [item.index for item in whole.data] == [0, 1]
    assert whole.usage.prompt_tokens == whole.usage.total_tokens == 3
    short = await inference.embed(embedding("ab", dimensions=2))
    assert short.data[0].embedding == pytest.approx([0.6, 0.8])
    coded = await inference.embed(embedding("ab", dimensions=2, encoding_format="base64"))
    assert isinstance(coded.data[0].embedding, str)
    with pytest.raises(BadRequest) as caught:
        await inference.embed(embedding("ab", dimensions=4))
    assert caught.value.param == "dimensions"
    with pytest.raises(BadRequest) as caught:
        await inference.embed(embedding(["ab", "x" * 101]))
    assert caught.value.param == "input[1]"


async def test_the_observer_is_told_once_of_what_ended(model, clock, engine) -> None:
    told = []
    inference = Inference({"tiny": model}, clock, lambda model, tally: told.append(tally.usage))
    await inference.chat(chat(n=2))
    await decoded(inference.chat_events(chat(stream=True)))
    engine.steps = [InternalError("no")]
    with pytest.raises(MoonpoolError):
        await inference.chat(chat())
    assert [usage.completion_tokens for usage in told] == [4, 2]


async def test_rates_are_measured(inference: Inference, engine) -> None:
    engine.steps = [
        Finished(
            reason="stop",
            prompt_tokens=120,
            cached_tokens=20,
            completion_tokens=50,
            prefill_seconds=0.5,
            decode_seconds=1.0,
        )
    ]
    await inference.chat(chat())
    load = inference.load()["tiny"]
    assert load.prefill_rate == pytest.approx(200)
    assert load.decode_rate == pytest.approx(50)
    assert not math.isnan(load.wait_seconds)
