"""model over HTTP: thin handlers around ModelService."""

from hashlib import sha256
from typing import Annotated

import msgspec
from litestar import Response, delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.types import ControllerRouterHandler

from moonpool.asgi.caller import Caller
from moonpool.contracts.config import SERVICES, ModelConfig
from moonpool.core.errors import PermissionDenied
from moonpool.core.principal import RANK, Principal, Role
from moonpool.services.model.schema import (
    ModelDetail,
    ModelDetails,
    ModelObject,
    ModelObjects,
    RemovedModel,
    model_detail,
    model_object,
)
from moonpool.services.model.service import ModelService

_READERS = frozenset({"gateway", *SERVICES})
WAIT = 1.0
"""Seconds that a question for news waits: another instance may have changed what is in the database."""
_encoder = msgspec.json.Encoder()

CallerOf = NamedDependency[Caller]
IfNoneMatch = Annotated[str, HeaderParameter(name="if-none-match")]


def handlers(service: ModelService) -> list[ControllerRouterHandler]:
    return [*_public(service), *_admin(service), _internal(service)]


def _public(service: ModelService) -> list[ControllerRouterHandler]:
    @get("/v1/models", summary="List the models")
    async def list_models() -> ModelObjects:
        catalogue = (await service.view()).catalogue()
        return ModelObjects(data=[model_object(model) for model in catalogue.models])

    # A path, since aliases may have slashes (meta-llama/Llama-3); Litestar gives it with its first one.
    @get("/v1/models/{model:path}", summary="One model")
    async def show_model(model: FromPath[str]) -> ModelObject:
        return model_object((await service.find(model.lstrip("/"))).entry.model)

    return [list_models, show_model]


def _admin(service: ModelService) -> list[ControllerRouterHandler]:
    @get("/admin/models", summary="List the models with their targets")
    async def list_details(caller: CallerOf) -> ModelDetails:
        _admin_of(caller)
        view = await service.view()
        return ModelDetails(data=[model_detail(each) for each in view.models.values()], version=view.version)

    @get("/admin/models/{model:path}", summary="One model with its targets")
    async def show_details(caller: CallerOf, model: FromPath[str]) -> ModelDetail:
        _admin_of(caller)
        return model_detail(await service.find(model.lstrip("/")))

    @put("/admin/models/{model:path}", summary="Add or replace a model")
    async def put_model(
        caller: CallerOf, model: FromPath[str], data: JSONBody[ModelConfig]
    ) -> Response[ModelDetail]:
        effective, new = await service.put(_admin_of(caller), model.lstrip("/"), data)
        return Response(model_detail(effective), status_code=201 if new else 200)

    @delete("/admin/models/{model:path}", status_code=200, summary="Remove a model")
    async def remove_model(caller: CallerOf, model: FromPath[str]) -> RemovedModel:
        alias = model.lstrip("/")
        await service.remove(_admin_of(caller), alias)
        return RemovedModel(id=alias)

    return [list_details, show_details, put_model, remove_model]


def _internal(service: ModelService) -> ControllerRouterHandler:
    @get("/internal/catalogue", include_in_schema=False)
    async def catalogue(
        caller: CallerOf, if_none_match: IfNoneMatch = "", known: FromQuery[int | None] = None
    ) -> Response[bytes]:
        """With `known`, the answer waits a while for another version."""
        if caller.issuer not in _READERS:
            raise PermissionDenied("only the gateway and the services read the catalogue")
        view = await (service.view() if known is None else service.newer(known, WAIT))
        body = _encoder.encode(view.catalogue())
        # By content, since a version number comes again when a database is restored from a copy.
        etag = f'"{sha256(body).hexdigest()[:32]}"'
        if if_none_match == etag:
            return Response(b"", status_code=304, headers={"etag": etag})
        return Response(body, media_type="application/json", headers={"etag": etag})

    return catalogue


def _admin_of(caller: Caller) -> Principal:
    principal = caller.principal
    if RANK[principal.role] < RANK[Role.ADMIN] or not principal.may("admin"):
        raise PermissionDenied("only admins see and change the targets of models")
    return principal
