"""Usage out of answers and streams: the same, wherever a stream was cut on its way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonpool.contracts.usage import Usage
from moonpool.core.errors import UpstreamMalformed
from moonpool.http.sse import EVENT_LIMIT
from moonpool.openai.usage import ChunkScan, usage_of_body, usage_of_event

OPENAI = (
    b'{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":4},'
    b'"completion_tokens_details":{"reasoning_tokens":2}}'
)
DEEPSEEK = (
    b'{"prompt_tokens":10,"completion_tokens":7,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6,'
    b'"completion_tokens_details":{"reasoning_tokens":2}}'
)
FULL = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=7, reasoning_tokens=2)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (OPENAI, FULL),
        (DEEPSEEK, FULL),
        (b'{"prompt_tokens":3}', Usage(prompt_tokens=3)),
        (b'{"prompt_tokens":3,"total_tokens":3}', Usage(prompt_tokens=3)),
        (b'{"prompt_tokens":null,"completion_tokens":null}', Usage()),
        (b'{"prompt_tokens":3,"prompt_tokens_details":null}', Usage(prompt_tokens=3)),
        (b'{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":null}}', Usage(prompt_tokens=3)),
        (b'{"prompt_tokens":3,"prompt_tokens_details":{}}', Usage(prompt_tokens=3)),
        (b"{}", Usage()),
        (b"null", None),
        (b'{"prompt_tokens":"3"}', None),
        (b"[]", None),
        # What nobody may be billed for:
        (b'{"prompt_tokens":-3,"completion_tokens":-1}', Usage()),
        (b'{"prompt_tokens":3,"prompt_cache_hit_tokens":9}', Usage(prompt_tokens=3, cached_tokens=3)),
        (b'{"prompt_tokens":3,"prompt_cache_hit_tokens":-9}', Usage(prompt_tokens=3)),
        (
            b'{"completion_tokens":3,"completion_tokens_details":{"reasoning_tokens":9}}',
            Usage(completion_tokens=3, reasoning_tokens=3),
        ),
    ],
)
def test_of_a_whole_answer(usage: bytes, expected: Usage | None) -> None:
    assert usage_of_body(b'{"id":"x","usage":%b}' % usage) == expected


@pytest.mark.parametrize("body", [b"", b"{", b"no json", b'{"id":1}', b"[1]", b"\xff"])
def test_of_what_reports_none(body: bytes) -> None:
    assert usage_of_body(body) is None


@pytest.mark.parametrize(
    ("event", "usage", "only"),
    [
        (b'data: {"choices":[],"usage":%b}\n\n' % OPENAI, FULL, True),
        (b'data:{"usage":%b}\n\n' % DEEPSEEK, FULL, True),
        (b'data: {"choices":[{"delta":{}}],"usage":%b}\n\n' % DEEPSEEK, FULL, False),
        (b'data: {"choices":[],"usage":null}\n\n', None, False),
        (b": comment\n\n", None, False),
        (b"data: [DONE]\n\n", None, False),
        (b"data: {\n\n", None, False),
    ],
)
def test_of_an_event(event: bytes, usage: Usage | None, only: bool) -> None:
    assert usage_of_event(event) == (usage, only)


EVENTS = [
    b'data: {"choices":[{"delta":{"content":"a\\n\\nb"}}],"usage":null}',
    b'data:{"choices":[{"delta":{"content":"\\"usage\\":{"}}]}',
    b": keep-alive",
    b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}',
    b'event: x\ndata: {"choices":[]}',
    b'data: {"choices":[],"usage":%b}' % OPENAI,
    b'data: {"choices":[{"delta":{"content":"\xc3\xa9"}}],"usage": %b}' % DEEPSEEK,
]


@st.composite
def split_streams(draw: st.DrawFn) -> tuple[list[bytes], bytes, list[bytes]]:
    events = draw(st.lists(st.sampled_from(EVENTS), max_size=8))
    if draw(st.booleans()):
        events.append(b"data: [DONE]")
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    text = b"".join(event.replace(b"\n", end) + end + end for event in events)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=20)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return events, text, [piece for piece in pieces if piece]


@given(split_streams())
def test_any_split_gives_the_same(stream: tuple[list[bytes], bytes, list[bytes]]) -> None:
    events, _, pieces = stream
    scan = ChunkScan()
    passed, found = [], []
    for piece in pieces:
        out = scan.feed(piece)
        assert out == b"" or out.endswith(b"\n\n")
        passed.append(out)
        singles = scan.split(out)
        assert b"".join(singles) == out
        usages = [usage for usage, _ in map(usage_of_event, singles) if usage is not None]
        assert scan.noteworthy or not usages
        found += usages
    assert b"".join(passed) == b"".join(event + b"\n\n" for event in events)
    assert found == [FULL] * sum(b"usage" in e and b"prompt_tokens" in e for e in events)
    assert scan.done == (b"data: [DONE]" in events)
    assert scan.events == sum(b"data:" in e for e in events if not e.startswith(b":")) - scan.done
    assert not scan.failed
    assert scan.finish() == b""


def test_every_byte_on_its_own() -> None:
    scan = ChunkScan()
    text = b'data: {"a":1}\r\n\r\n: hi\r\n\r\ndata: [DONE]\r\n\r\n'
    passed = b"".join(scan.feed(bytes([byte])) for byte in text)
    assert passed == text.replace(b"\r", b"")
    assert (scan.events, scan.done) == (1, True)


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (b'data: {"error":{"message":"x"}}\n\n', True),
        (b'data:{"error":{"message":"x"}}\n\n', True),
        (b'data: {"choices":[{"delta":{"content":"\\"error\\""}}]}\n\n', False),
        (b'data: {"choices":[],"error":null}\n\n', False),
    ],
)
def test_an_endpoint_s_own_error(event: bytes, failed: bool) -> None:
    scan = ChunkScan()
    scan.feed(b'data: {"a":1}\n\n' + event)
    assert scan.failed == failed


def test_a_last_event_without_its_blank_line_is_not_passed() -> None:
    scan = ChunkScan()
    assert scan.feed(b'data: {"a":1}\n\ndata: {"b"') == b'data: {"a":1}\n\n'
    assert scan.finish() == b""
    assert not scan.done


@pytest.mark.parametrize("last", [b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\r\n"])
def test_the_end_may_lack_its_blank_line(last: bytes) -> None:
    scan = ChunkScan()
    scan.feed(last)
    assert scan.finish() == last.strip() + b"\n\n"
    assert scan.done


def test_an_event_without_an_end_is_not_held_for_ever() -> None:
    scan = ChunkScan()
    scan.feed(b"data: " + b"x" * (EVENT_LIMIT - 10))
    with pytest.raises(UpstreamMalformed):
        scan.feed(b"x" * 11)
