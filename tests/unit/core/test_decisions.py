from moonpool.core.decisions import Flag


def test_flags_are_a_small_fixed_vocabulary_without_doubles() -> None:
    values = [flag.value for flag in Flag]
    assert len(values) == len(set(values))
    assert all(len(value) in {2, 3} and value.isupper() for value in values)
