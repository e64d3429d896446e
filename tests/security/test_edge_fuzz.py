"""A sample of the edge's fuzzing; the million is run by hand (see fuzz_edge.py)."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("fuzz_edge", Path(__file__).with_name("fuzz_edge.py"))
assert _spec is not None
assert _spec.loader is not None
fuzz_edge = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz_edge)


def test_a_sample_of_inputs() -> None:
    fuzzer = fuzz_edge.Fuzzer(seed=20_000)
    for _ in range(20_000):
        fuzzer.one()
    assert {100, 200, 400, 413, 431} <= fuzzer.answers.keys()
