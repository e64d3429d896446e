from pathlib import Path

import pytest

from moonpool.cli.release_wish import Wish, next_label, release_of, source_words
from moonpool.contracts.money import PriceConfig
from moonpool.contracts.releases import CommandSource, EndpointSource, EnvironmentSource, PackageSource
from moonpool.core.errors import Unprocessable


def made(**words):
    return release_of(Wish(**{"service": "inference", "label": "v2", **words}), (), 7.0)


@pytest.mark.parametrize(
    ("words", "source", "shown"),
    [
        ({}, PackageSource(), "this package"),
        (
            {"command": "/opt/x --on '{socket}'", "ready_path": "/ok"},
            CommandSource(argv=("/opt/x", "--on", "{socket}"), ready_path="/ok"),
            "/opt/x --on '{socket}'",
        ),
        (
            {"url": "https://h/v1/", "model": "m", "api_key_env": "KEY"},
            EndpointSource(url="https://h/v1", model="m", api_key_env="KEY"),
            "https://h/v1 m",
        ),
        (
            {"url": "https://h/v1", "price": "prompt=0.27, completion=1.1"},
            EndpointSource(url="https://h/v1", price=PriceConfig(prompt=0.27, completion=1.1)),
            "https://h/v1",
        ),
        ({"environment": Path("/e")}, EnvironmentSource(path="/e"), "/e"),
    ],
)
def test_sources(words, source, shown):
    release = made(**words)
    assert release.source == source
    assert source_words(release) == shown


def test_settings_are_yaml_at_a_path():
    release = made(
        settings=("engine.slots=8", "models.m.targets=[{local: x.gguf}]", "drain_timeout=2.5"),
        variables=("A=1=2",),
        replicas=3,
        note="why",
    )
    overrides = release.overrides
    assert overrides.engine is not None
    assert overrides.engine.slots == 8
    assert overrides.models["m"].targets[0].local == "x.gguf"
    assert (overrides.drain_timeout, overrides.instances, overrides.environment) == (2.5, 3, {"A": "1=2"})
    assert (release.created, release.note) == (7.0, "why")
    assert release.by


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"url": "http://x", "command": "x"}, "one source"),
        ({"model": "m"}, "belong to --url"),
        ({"price": "prompt=1"}, "belong to --url"),
        ({"url": "http://x", "price": "prompt"}, "NAME=VALUE"),
        ({"url": "http://x", "price": "prompt=cheap"}, "no number"),
        ({"url": "http://x", "price": "answer=1"}, "unknown field"),
        ({"url": "ftp://x"}, "regex"),
        ({"command": "'"}, "cannot be read"),
        ({"settings": ("engine",)}, "NAME=VALUE"),
        ({"settings": ("nosuch.x=1",)}, "no setting nosuch"),
        ({"settings": ("engine.slots=0",)}, ">= 1"),
        ({"settings": ("engine.slots=[",)}, "no YAML"),
        ({"settings": ("engine=1", "engine.slots=2")}, "has a value already"),
        ({"variables": ("1A=x",)}, "regex"),
        ({"label": "No Label"}, "is no label"),
    ],
)
def test_what_cannot_be(words, why):
    with pytest.raises(Unprocessable, match=why):
        made(**words)


@pytest.mark.parametrize(
    ("taken", "label"), [((), "v2"), (("v2", "v10", "big"), "v11"), (("v1", "v1.5"), "v2")]
)
def test_the_next_label(taken, label):
    assert next_label(taken) == label
