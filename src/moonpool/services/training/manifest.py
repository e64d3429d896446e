"""What the training service promises, and the policies of its routes."""

from moonpool.contracts.manifest import BodyKind, Letters, Manifest, Remember, Route, Timeouts

_JOBS = "/v1/fine_tuning/jobs"
_ONE = _JOBS + "/{job_id}"
_TIMEOUTS = Timeouts(total=15.0, first_byte=10.0)


def _route(method: str, path: str, summary: str, body: BodyKind = BodyKind.NONE) -> Route:
    return Route(
        method=method,
        path=path,
        scope="training",
        body=body,
        body_limit=256 * 1024,
        timeouts=_TIMEOUTS,
        priority=2,
        remember=Remember.CALLER if method == "GET" else Remember.NO,
        letters=Letters.NO if body is BodyKind.NONE else Letters.FAILED,
        summary=summary,
    )


MANIFEST = Manifest(
    service="training",
    summary="Fine-tuning jobs: accepted, queued, listed, cancelled",
    fallback="moonpool.services.training.fallback:create",
    nice=5,  # hours of work that nobody watches
    routes=(
        _route("POST", _JOBS, "Create a fine-tuning job", BodyKind.BUFFERED),
        _route("GET", _JOBS, "List fine-tuning jobs"),
        _route("GET", _ONE, "One fine-tuning job"),
        _route("POST", _ONE + "/cancel", "Cancel a fine-tuning job"),
        _route("GET", _ONE + "/events", "What happened to a fine-tuning job"),
    ),
)
