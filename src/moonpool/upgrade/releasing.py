"""The list of releases as people see it: what was added, and what of it runs. Pure."""

from collections.abc import Iterable

from moonpool.contracts.releases import FIRST, MODULES, Release, ReleaseList
from moonpool.contracts.upgrades import ReleasePage, ReleaseView
from moonpool.ports.spawner import Deployment


def release_page(releases: ReleaseList, deployments: Iterable[Deployment], service: str = "") -> ReleasePage:
    """Of `service`, or of all; what runs without having been added (the first release) is there too."""
    running = {(one.service, one.release): one for one in deployments if one.service in MODULES}
    views = [_added(one.release, running) for one in releases.releases]
    views += [
        ReleaseView(service=name, label=label, source="package", replicas=one.replicas, ready=one.ready)
        for (name, label), one in running.items()
        if label == FIRST or one.instances
    ]
    views.sort(key=lambda view: (view.service, view.created))
    return ReleasePage(data=[view for view in views if service in ("", view.service)])


def _added(release: Release, running: dict[tuple[str, str], Deployment]) -> ReleaseView:
    """Takes its deployment out of `running`."""
    deployment = running.pop((release.service, release.label), None)
    return ReleaseView(
        service=release.service,
        label=release.label,
        source=str(type(release.source).__struct_config__.tag),
        note=release.note,
        created=release.created,
        by=release.by,
        digest=release.digest,
        replicas=deployment.replicas if deployment else 0,
        ready=deployment.ready if deployment else 0,
    )
