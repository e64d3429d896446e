"""What is kept of a relayed stream, however its bytes are cut, and what forbids to continue it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.continuation import Begun, Untold
from moonpool.core.body import Stream
from moonpool.core.errors import BadRequest, StreamTruncated, UpstreamError, UpstreamMalformed
from moonpool.http.sse import EVENT_LIMIT
from moonpool.middleware.continuation import LIMIT, Follower, continuable, is_plain, never
from moonpool.middleware.transcript import Transcript
from moonpool.openai.parse import parse
from moonpool.openai.schema import ChatCompletionRequest, CompletionRequest
from moonpool.openai.usage import ChunkScan

DONE = b"data: [DONE]\n\n"


def chunk(delta=None, *, line: bytes = b"", reason=None, index: int = 0, **fields) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": reason}
    head = {"id": "c1", "created": 5, "model": "m", "system_fingerprint": "fp_1"}
    return b"data: " + msgspec.json.encode({**head, "choices": [choice], **fields}) + b"\n" + line + b"\n"


ROLE = chunk({"role": "assistant", "content": ""})
STREAM = (
    ROLE
    + chunk({"content": "Hel"}, line=b":k=12\n")
    + chunk({"content": "lo 🎉"}, line=b":k=~3\n")
    + chunk({"content": "!"}, line=b":k=7.8\n")
)
CLEAN = ROLE + chunk({"content": "Hel"}) + chunk({"content": "lo 🎉"}) + chunk({"content": "!"})


class Account:
    def __init__(self, choices: int = 1) -> None:
        self.stream = Stream()
        self.transcript = Transcript(choices)


def follow(*data: bytes, traced: bool = True) -> tuple[bytes, Transcript]:
    follower = Follower(Account(), traced=traced)
    passed = b"".join([follower.chunk(piece) for piece in data])
    return passed, follower.read()


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_however_it_is_cut_the_same_is_let_through_and_kept(size: int) -> None:
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    passed, transcript = follow(*pieces)
    assert passed == CLEAN
    assert transcript.text == "Hello 🎉!"
    assert transcript.count == 6
    assert transcript.begun() == Begun(
        answer=[12, Untold("lo 🎉", 3), 7, 8], id="c1", created=5, fingerprint="fp_1"
    )


def test_events_that_are_all_the_same_are_plain() -> None:
    account = Account()
    follower = Follower(account, traced=False)
    same = [bytes(bytearray(chunk({"content": "x"}))) for _ in range(30)]
    for event in same:
        assert follower.chunk(event) is event
    assert account.stream.plain is same[-1]
    assert follower.read().text == "x" * 30


def test_usual_events_are_told_to_be_plain_and_others_are_not() -> None:
    account = Account()
    follower = Follower(account, traced=False)
    for number in range(100):
        usual = chunk({"content": f" word{number}"})
        assert follower.chunk(usual) is usual
        if number > 4 and number % 32 > 4:  # batches are begun the long way
            assert account.stream.plain is usual
    for other in (
        chunk({"content": "x"}, reason="stop"),
        chunk({"content": "x"}, usage={"prompt_tokens": 1}),
        chunk({"content": {"usage": {}}}),
        chunk({"content": "x"}) * 2,
        chunk({"content": "x"})[:-2] + b'{"error": 1}\n\n',
        b": ping\n\n",
        chunk({"content": "x"}).replace(b"\n", b"\r\n"),
        DONE,
    ):
        assert follower.chunk(other)
        assert account.stream.plain is not other


WORDS = st.sampled_from(["a", " b", "", "{", "\n", "[DONE]", 'data: {"error"', '"usage":{', "x" * 5000])
EVENTS = st.one_of(
    st.builds(lambda word: chunk({"content": word}), WORDS),
    st.builds(lambda word: chunk({"content": word}, usage=None), WORDS),
    st.builds(lambda word: chunk({"content": word}, usage={"prompt_tokens": 1}), WORDS),
    st.builds(lambda word: b'data: {"x":' + word.encode() + b'"}\n\n', WORDS),
    st.builds(lambda word: chunk({"content": word}).replace(b"\n", b"\r\n"), WORDS),
    st.builds(lambda word: b'data: {"choices":[],"what":"%b","usage":}\n\n' % word.encode(), WORDS),
    st.sampled_from([DONE, b": ping\n\n", b'data: { "error":{}}\n\n', b'data: {"usage":{"a":1}}\n\n']),
)


@given(st.lists(st.lists(EVENTS, min_size=1, max_size=3).map(b"".join), max_size=90))
def test_who_looks_into_what_is_plain_finds_nothing(pieces: list[bytes]) -> None:
    account = Account()
    follower = Follower(account, traced=False)
    for piece in pieces:
        try:
            passed = follower.chunk(piece)
        except UpstreamError:
            return
        if passed and passed is account.stream.plain:
            scan = ChunkScan()
            assert scan.feed(passed) == passed
            assert (scan.events, scan.done, scan.failed, scan.noteworthy) == (1, False, False, False)


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (b"", b"}\n\n"),
        (b'data: {"choi', b"}\n\n"),  # too short to tell an error
        (b'data: {"error":{"message":"', b'"}}\n\n'),
        (b'data: { "error":{"message":"', b'"}}\n\n'),
        (b': ping\n\ndata: {"choices":[{"', b'"}]}\n\n'),
        (b'data: {"choices":[],"usage":{"n":', b"}}\n\n"),
        (b'data: {"choices":[{"delta":{"content":"', b'"}}],"usage":{}}\n\n'),
        (b'data: {"choices":[{"delta":{"content":"', b'"}}]}\n\ndata: x}\n\n'),
        (b'data: {"choices":[{"delta":{"content":"', b'"}}]}\r\n\n'),
        (b'data: {"choices":[{"delta":{"content":"', b'"}}]\n\n'),
        (b'data: {"choices":[{"delta":{"content":"', b""),
        (b"data:                          ", b"\n\n"),
    ],
)
def test_what_may_not_be_plain(head: bytes, tail: bytes) -> None:
    assert is_plain(b'data: {"choices":[{"delta":{"content":"', b'"}}],"usage":null}\n\n')
    assert not is_plain(head, tail)


def test_a_half_event_is_no_part_of_the_answer() -> None:
    follower = Follower(Account(), traced=True)
    event = chunk({"content": "lost"}, line=b":k=9\n")
    assert follower.chunk(ROLE + event[:-1]) == ROLE
    assert follower.read().text == ""


def test_line_ends_of_crlf() -> None:
    passed, transcript = follow(*[bytes([byte]) for byte in CLEAN.replace(b"\n", b"\r\n")], traced=False)
    assert passed == CLEAN
    assert transcript.text == "Hello 🎉!"


def test_without_tokens_the_events_with_text_are_counted() -> None:
    passed, transcript = follow(CLEAN, b": keep-alive\n\n", traced=False)
    assert passed.endswith(b": keep-alive\n\n")
    assert (transcript.count, transcript.traced) == (3, False)


def test_a_completion_has_its_text_elsewhere() -> None:
    event = b'data: {"id":"t","choices":[{"index":0,"text":"Oh","finish_reason":null}]}\n\n'
    assert follow(event)[1].text == "Oh"


def test_how_far_it_came() -> None:
    _, transcript = follow(STREAM)
    assert not transcript.finished
    _, transcript = follow(STREAM, chunk(reason="stop"))
    assert transcript.finished
    assert not transcript.done
    _, transcript = follow(STREAM, chunk(reason="stop"), chunk(usage={"prompt_tokens": 1}), DONE)
    assert transcript.done
    assert transcript.usage_told


def test_all_choices_have_to_finish() -> None:
    follower = Follower(Account(2), traced=False)
    follower.chunk(chunk(reason="stop"))
    assert not follower.read().finished
    follower.chunk(chunk(reason="stop", index=1))
    assert follower.read().finished


def test_an_end_that_is_none() -> None:
    follower = Follower(Account(), traced=False)
    follower.chunk(CLEAN)
    with pytest.raises(StreamTruncated):
        follower.finish()


def test_done_without_its_blank_line() -> None:
    follower = Follower(Account(), traced=False)
    follower.chunk(CLEAN + b"data: [DONE]")
    assert follower.finish() == DONE
    assert follower.done
    assert follower.read().done


@pytest.mark.parametrize(("kind", "expected"), [("server_error", UpstreamError), ("", UpstreamError)])
def test_an_error_in_the_stream_is_a_failure(kind: str, expected: type[Exception]) -> None:
    told = b'data: {"error":{"message":"out of memory","type":"%b"}}\n\n' % kind.encode()
    with pytest.raises(expected, match="out of memory"):
        follow(CLEAN, chunk({"content": "x"}) + told)


def test_an_error_of_the_clients_stays_the_clients() -> None:
    with pytest.raises(BadRequest):
        follow(b'data: {"error":{"message":"too long","type":"invalid_request_error"}}\n\n')


def test_text_about_errors_is_text() -> None:
    assert follow(chunk({"content": 'data: {"error": 1}'}))[1].text == 'data: {"error": 1}'


def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(UpstreamMalformed):
        follow(b"data: " + b"x" * EVENT_LIMIT)


CALL = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (chunk(CALL), "calls a tool"),
        (chunk({"refusal": "No."}), "refusal"),
        (chunk({"content": "x"}, index=1), "several choices"),
        (b"data: {broken}\n\n", "cannot be read"),
    ],
)
def test_what_is_said_may_forbid_it(data: bytes, fault: str) -> None:
    _, transcript = follow(STREAM, data)
    assert fault in (continuable(CHAT, transcript, local=True) or "")
    assert transcript.text == ""


@pytest.mark.parametrize("tail", [b"\n\n", b"\n:k=1\n\n", b"\n\n" + STREAM])
def test_json_that_ends_in_the_middle_is_a_break(tail: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        follow(b'data: {"choices": [{"delta": {"cont' + tail)


def test_what_is_too_long_is_not_kept() -> None:
    follower = Follower(Account(), traced=True)
    large = chunk({"content": "x" * (LIMIT // 40)}, line=b":k=1\n")
    for _ in range(50):
        assert follower.chunk(large)
    assert follower._kept.size < LIMIT
    assert continuable(CHAT, follower.read(), local=True) == "it is too long"
    follower.chunk(DONE)
    assert follower.finish() == b""


CHAT = parse(ChatCompletionRequest, b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')
TEXT = parse(CompletionRequest, b'{"model":"m","prompt":"Hi"}')
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"n": 2}, "several choices"),
        ({"tools": TOOLS}, "tools"),
        ({"tools": TOOLS, "tool_choice": "none"}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, "a response format"),
    ],
)
def test_what_is_asked_may_forbid_it(change, why) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **change}
    assert never(parse(ChatCompletionRequest, msgspec.json.encode(body))) == why


@pytest.mark.parametrize(
    ("change", "possible"),
    [
        ({}, True),
        ({"prompt": ["a", "b"]}, False),
        ({"echo": True}, False),
        ({"best_of": 2}, False),
        ({"logprobs": 1}, False),
        ({"suffix": "end"}, False),
        ({"prompt": [1, 2]}, True),
    ],
)
def test_completions(change, possible: bool) -> None:
    body = {"model": "m", "prompt": "Oh", **change}
    assert (never(parse(CompletionRequest, msgspec.json.encode(body))) is None) == possible


def test_who_may_continue() -> None:
    _, told = follow(STREAM)
    assert continuable(CHAT, told, local=True) is None
    assert continuable(CHAT, told, local=False) is None
    _, untold = follow(CLEAN)
    assert continuable(CHAT, untold, local=True) is not None
    assert continuable(CHAT, untold, local=False) is None
    _, thinking = follow(chunk({"reasoning_content": "Hm"}))
    assert continuable(CHAT, thinking, local=False) is not None
    _, thought = follow(chunk({"reasoning_content": "Hm"}), chunk({"content": "Oh"}))
    assert continuable(CHAT, thought, local=False) is None
    assert continuable(CHAT, thought, local=True) is not None
    tokens = parse(CompletionRequest, b'{"model":"m","prompt":[1,2]}')
    assert continuable(tokens, untold, local=False) is not None
    assert continuable(tokens, told, local=True) is None
    assert continuable(TEXT, Transcript(), local=True) is None  # nothing was said: asked again
