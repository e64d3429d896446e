"""What model's routes give. A model is written as `contracts.config.ModelConfig`: the same document that
stands in the configuration file. Times are Unix seconds."""

import msgspec

from moonpool.contracts.catalogue import Model, Target
from moonpool.services.model.layers import Effective


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's model object, and what clients of this platform like to know beside it."""

    id: str
    object: str = "model"
    created: int
    owned_by: str
    context: int | None
    capabilities: tuple[str, ...]


class ModelObjects(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelObject]


class ModelDetail(ModelObject, frozen=True, kw_only=True):
    """With what only admins see. `source` is "config" or "api"; `overrides`: removing it brings a
    configured model of that name back."""

    targets: tuple[Target, ...]
    fallbacks: tuple[str, ...]
    revision: str
    source: str
    overrides: bool
    updated_at: float
    updated_by: str


class ModelDetails(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelDetail]
    version: int


class RemovedModel(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "model"
    deleted: bool = True


def model_object(model: Model) -> ModelObject:
    return ModelObject(
        id=model.id,
        created=model.created,
        owned_by=model.owned_by,
        context=model.context,
        capabilities=model.capabilities,
    )


def model_detail(effective: Effective) -> ModelDetail:
    entry, model = effective.entry, effective.entry.model
    return ModelDetail(
        id=model.id,
        created=model.created,
        owned_by=model.owned_by,
        context=model.context,
        capabilities=model.capabilities,
        targets=model.targets,
        fallbacks=model.fallbacks,
        revision=model.revision,
        source=entry.source,
        overrides=effective.overrides,
        updated_at=entry.updated_at,
        updated_by=entry.updated_by,
    )
