"""What the settings name in a Kubernetes cluster, made reachable: credentials, port-forwards, exclusive access."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from pydantic import SecretStr

from .errors import ClusterError, PostgresError, SettingsError
from .postgres.connection import answers, connection_parameters, dsn_of

if TYPE_CHECKING:
    from .cluster.access import Rule
    from .cluster.api import Cluster, PodReference
    from .cluster.claim import GoldenClaim
    from .cluster.documents import ProdDocuments, SandboxDocuments
    from .cluster.workload import Workload
    from .postgres.connection import Address
    from .progress import Progress
    from .settings import DocumentsSettings, ProdSettings, SandboxSettings, Settings

_AnyPlace = TypeVar("_AnyPlace", "ProdSettings", "SandboxSettings")

_FORBIDDEN = 403

_BESIDE_THE_DUMP = timedelta(hours=2)
"""How long a toolbox may take for all else."""

_ANSWERS_WITHIN = timedelta(seconds=2)
"""After it, each address of a host counts as out of reach from here."""

__all__ = [
    "cluster_of",
    "documents_back",
    "documents_of_prod",
    "documents_of_sandbox",
    "erp_down",
    "erp_up",
    "golden_claim",
    "in_roles",
    "lacking_rules",
    "prods_namespaces",
    "reached",
    "rules_in_prod",
    "rules_in_sandboxes",
    "toolboxes_removed",
    "uses_cluster",
]


def uses_cluster(settings: Settings) -> bool:
    """Whether the settings name anything in a cluster."""
    sides = [(each.secret, each.forward, each.namespace) for each in (settings.prod, *settings.all_sandboxes)]
    return any(any(side) for side in sides)


@cache
def _connected(kubeconfig: str | None, context: str | None) -> Cluster:
    from pathlib import Path

    from .cluster.api import connect_cluster

    return connect_cluster(None if kubeconfig is None else Path(kubeconfig), context)


def cluster_of(settings: Settings) -> Cluster:
    """The cluster that the settings mean, connected once.

    Raises:
        ClusterError: there is no way to it.
    """
    kubeconfig = settings.cluster.kubeconfig
    return _connected(None if kubeconfig is None else str(kubeconfig), settings.cluster.context)


@contextmanager
def reached(
    settings: Settings, on_trouble: Callable[[str], None] = lambda _: None, *, but_for_prod: bool = False
) -> Iterator[Settings]:
    """The settings with every database reachable: its DSN complete, its login read anew for each connection.

    What a sandbox's secret says of its ERP's unique id goes into the settings, too, where they have none.

    Args:
        settings: as they were read.
        on_trouble: is told why a port-forward could not lead a connection on.
        but_for_prod: whether prod is left alone, as it is where nothing is refreshed.

    Raises:
        ClusterError: a Secret cannot be read, or a port not be forwarded to; where a right is missing, it says which.
    """
    with ExitStack() as forwards:

        def reach(place: _AnyPlace, setting: str) -> _AnyPlace:
            try:
                return _reached(settings, place, setting, forwards, on_trouble)
            except ClusterError as error:
                if error.status == _FORBIDDEN:
                    error.hint = in_roles(lacking_rules(settings)) or error.hint
                raise

        update: dict[str, object] = {}
        if not but_for_prod and settings.refresh != "never":
            update["prod"] = reach(settings.prod, "prod")
        if settings.sandbox is not None:
            update["sandbox"] = reach(settings.sandbox, settings.sandbox.name)
        update["sandboxes"] = tuple(reach(place, place.name) for place in settings.sandboxes)
        yield settings.model_copy(update=update)


def _reached(
    settings: Settings,
    place: _AnyPlace,
    setting: str,
    forwards: ExitStack,
    on_trouble: Callable[[str], None],
) -> _AnyPlace:
    if place.secret is None and place.credentials is None and place.forward is None:
        return place
    given: dict[str, str] = {}
    if place.dsn is not None:
        given = connection_parameters(place.dsn, f"{setting}.dsn")
    read = _reader(settings, place, setting)
    said = {} if read is None else dict(read())
    place = _with_unique_id(place, said.pop("instance_unique_id", None))
    given.update((name, value.get_secret_value()) for name, value in said.items())
    at = address = None
    if place.forward is not None and not (_address(given)[0] and answers(given, _ANSWERS_WITHIN)):
        workload = _workload(place.forward, place.namespace, f"{setting}.forward")
        local = forwards.enter_context(_forwarded(settings, workload, place.forward_port, on_trouble))
        at, address = str(workload), _address(given)
        # The host's name stays where it is one: servers are compared with it (verify-full), and lines of passfiles.
        if "host" not in given or "," in given["host"]:
            given["host"] = "127.0.0.1"
        given["hostaddr"], given["port"] = "127.0.0.1", str(local)

    def login() -> dict[str, SecretStr]:
        assert read is not None
        return {name: value for name, value in read().items() if name in ("user", "password")}

    return place.reached(dsn_of(given), None if read is None else login, at, address)


def _address(parameters: Mapping[str, str]) -> Address:
    return parameters.get("hostaddr") or parameters.get("host", ""), parameters.get("port", "5432")


def _with_unique_id(place: _AnyPlace, unique_id: SecretStr | None) -> _AnyPlace:
    from .settings import SandboxSettings

    if unique_id is None or not isinstance(place, SandboxSettings) or place.erp.instance_unique_id is not None:
        return place
    return place.model_copy(update={"erp": place.erp.model_copy(update={"instance_unique_id": unique_id})})


def _reader(settings: Settings, place: _AnyPlace, setting: str) -> Callable[[], Mapping[str, SecretStr]] | None:
    if place.secret is None and place.credentials is None:
        return None
    from .cluster.credentials import KEYS, UNIQUE_ID_KEY, MountedSecret, SecretReference, StoredSecret

    own: Mapping[str, str] = {str(parameter): key for parameter, key in place.secret_keys.items()}
    # Prod's unique id, with which its API keys are encrypted, is not for us to read.
    keys = {**KEYS, **({} if place is settings.prod else UNIQUE_ID_KEY), **own}
    if place.credentials is not None:
        return MountedSecret(place.credentials, keys).read
    assert place.secret is not None
    reference = SecretReference.parse(place.secret, f"{setting}.secret")
    return StoredSecret(cluster_of(settings), reference, keys).read


def _forwarded(
    settings: Settings, workload: Workload, port: int, on_trouble: Callable[[str], None]
) -> AbstractContextManager[int]:
    from .cluster.forward import forwarded

    return forwarded(cluster_of(settings), workload, port, on_trouble)


def _workload(text: str | None, namespace: str | None, setting: str) -> Workload:
    from .cluster.workload import Workload

    if text is None or namespace is None:
        raise SettingsError(f"{setting} needs a workload and a namespace", hint='Such as "deployment/dolibarr".')
    return Workload.parse(text, namespace, setting)


def prods_namespaces(settings: Settings) -> set[str]:
    """Where nothing is ever written."""
    prod = settings.prod
    return {name for name in (prod.namespace, (prod.secret or "").partition("/")[0]) if name}


@contextmanager
def erp_down(settings: Settings, place: SandboxSettings, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Scale the ERP in front of a sandbox to 0 for a while, where the settings name its workload.

    If its URL answered before, that is awaited afterwards, too.

    Raises:
        NotASandboxError: it is in prod's namespace.
        ClusterError: it may not be scaled, its pods do not end, or do not become ready again.
    """
    if place.erp.workload is None:
        yield
        return
    from .cluster.workload import scaled_down
    from .dolibarr.api import await_answer, erp_answers

    workload = _workload(place.erp.workload, place.namespace, f"{place.name}.erp.workload")
    url = place.erp.url if place.erp.url is not None and erp_answers(place.erp.url) else None
    with scaled_down(cluster_of(settings), workload, prods=prods_namespaces(settings), on_wait=on_wait):
        yield
    if url is not None:
        await_answer(url, on_wait)


def erp_up(settings: Settings, place: SandboxSettings, on_wait: Callable[[str], None]) -> int | None:
    """Put back what a killed run has left scaled to 0; returns to how many pods, or None where nothing was left.

    Raises:
        NotASandboxError: it is in prod's namespace.
        ClusterError: it may not be scaled, or does not become ready.
    """
    if place.erp.workload is None:
        return None
    from .cluster.workload import READY_WITHIN, await_ready, recover
    from .dolibarr.api import await_answer

    workload = _workload(place.erp.workload, place.namespace, f"{place.name}.erp.workload")
    put_back = recover(cluster_of(settings), workload, prods=prods_namespaces(settings))
    if put_back is not None:
        await_ready(cluster_of(settings), workload, READY_WITHIN, on_wait)
        if place.erp.url is not None:
            await_answer(place.erp.url, on_wait)
    return put_back


@contextmanager
def golden_claim(settings: Settings, progress: Progress, *, for_refresh: bool = False) -> Iterator[GoldenClaim | None]:
    """Hold the golden dumps on the claim; None where the settings name none, or it is mounted here.

    Args:
        settings: where it is, and what its toolbox is made of.
        progress: is told what is waited for.
        for_refresh: whether prod may have to be dumped in the toolbox, which gets prod's login then.

    Raises:
        ClusterError: the claim cannot be used, or no pod be started that mounts it.
        PostgresError: prod cannot be reached.
    """
    claim = settings.golden.claim_elsewhere
    if claim is None:
        yield None
        return
    from .cluster.claim import locked_claim
    from .cluster.toolbox import ToolboxImage, toolbox

    namespace = settings.claim_namespace
    assert namespace is not None  # the settings are complete
    image = ToolboxImage(settings.golden.image, user=settings.golden.user)
    started = toolbox(
        cluster_of(settings),
        namespace,
        claim,
        image,
        login=_login_there(settings) if for_refresh else None,
        prods=prods_namespaces(settings),
        deadline=settings.prod.dump_timeout + _BESIDE_THE_DUMP,
        on_wait=progress.say,
    )
    with started as running, locked_claim(running, progress) as golden:
        yield golden


def _login_there(settings: Settings) -> Mapping[str, SecretStr] | None:
    """Prod's login of this moment; None where a toolbox has no use for it."""
    prod = settings.prod.database()
    if not settings.may_dump_there or prod is None:
        return None
    with prod.connect() as connection:
        try:
            return prod.from_elsewhere(connection)[1]
        except PostgresError:  # it is said when prod is dumped, as it is dumped here then
            return None


def toolboxes_removed(settings: Settings, on_left: Callable[[str], None]) -> list[str]:
    """Remove the toolboxes that killed runs have left; returns the pods' names, and tells which others there are.

    Raises:
        ClusterError: they may not be listed or removed.
    """
    if settings.golden.claim_elsewhere is None:
        return []
    from .cluster.toolbox import ENDS_WITHIN, remove_orphans

    namespace = settings.claim_namespace
    assert namespace is not None  # the settings are complete
    return remove_orphans(cluster_of(settings), namespace, ENDS_WITHIN, on_left, logins=settings.may_dump_there)


def documents_of_prod(settings: Settings, folders: tuple[str, ...]) -> ProdDocuments:
    """Prod's documents, in a pod of its ERP that is ready.

    Raises:
        SettingsError: the settings do not say where they are.
        ClusterError: no pod is ready.
    """
    from .cluster.documents import ProdDocuments

    documents = settings.prod.documents
    if documents is None:
        raise SettingsError("prod.documents does not say where prod's documents are")
    workload = _workload(documents.workload, settings.prod.namespace, "prod.documents.workload")
    return ProdDocuments(_pod(settings, workload, documents), documents.path, folders)


def documents_of_sandbox(settings: Settings, place: SandboxSettings) -> SandboxDocuments:
    """A sandbox's documents, in a pod of its ERP that is ready.

    Raises:
        SettingsError: the settings do not say where they are.
        ClusterError: no pod is ready.
    """
    from .cluster.documents import SandboxDocuments

    documents = place.documents
    if documents is None:
        raise SettingsError(f"{place.name}.documents does not say where the sandbox's documents are")
    workload = _documents_workload(place, documents)
    return SandboxDocuments(_pod(settings, workload, documents), documents.path, documents.folders, owner=str(workload))


def documents_back(settings: Settings, place: SandboxSettings) -> None:
    """Put a sandbox's documents back to what they were when they were synced, where the settings ask for it.

    Raises:
        NotASandboxError: they are not marked as the sandbox's own.
        ClusterError: no pod is ready, there is no golden copy, or they cannot be put back.
    """
    if place.documents is None or not place.documents.reset:
        return
    from .cluster.golden_documents import put_back

    put_back(cluster_of(settings), documents_of_sandbox(settings, place), prods_namespaces(settings))


def _documents_workload(place: SandboxSettings, documents: DocumentsSettings) -> Workload:
    return _workload(documents.workload or place.erp.workload, place.namespace, f"{place.name}.documents.workload")


def _pod(settings: Settings, workload: Workload, documents: DocumentsSettings) -> PodReference:
    from .cluster.api import PodReference
    from .cluster.workload import ready_pod

    name = ready_pod(cluster_of(settings), workload)
    return PodReference(workload.namespace, name, documents.container)


def lacking_rules(settings: Settings) -> list[Rule]:
    """What is needed in the cluster, and not granted to us.

    Raises:
        ClusterError: the API server cannot be asked.
    """
    from .cluster.access import missing

    in_prod = [] if settings.refresh == "never" else rules_in_prod(settings, forward=settings.prod.needs_forward)
    return missing(cluster_of(settings), [*in_prod, *rules_in_sandboxes(settings)])


def in_roles(rules: Iterable[Rule]) -> str:
    """What Roles must have, a line for each."""
    return "\n".join(f"a Role in namespace {rule.namespace} needs {rule.grant}" for rule in rules)


def rules_in_prod(settings: Settings, *, forward: bool = True) -> list[Rule]:
    """All that is done in prod's namespaces; a port-forward only where it is asked for."""
    from .cluster.access import exec_rules, forward_rules, ready_pod_rules, secret_rules
    from .cluster.credentials import SecretReference

    prod = settings.prod
    rules: list[Rule] = []
    if prod.secret is not None:
        rules += secret_rules(SecretReference.parse(prod.secret, "prod.secret"))
    if forward and prod.forward is not None:
        rules += forward_rules(_workload(prod.forward, prod.namespace, "prod.forward"))
    if prod.documents is not None and any(place.documents for place in settings.all_sandboxes):
        workload = _workload(prod.documents.workload, prod.namespace, "prod.documents.workload")
        rules += [*ready_pod_rules(workload), *exec_rules(workload.namespace)]
    return rules


def rules_in_sandboxes(settings: Settings) -> list[Rule]:
    """All that is done in the sandboxes' namespaces."""
    from .cluster.access import exec_rules, forward_rules, ready_pod_rules, scale_rules, secret_rules, toolbox_rules
    from .cluster.credentials import SecretReference

    rules: list[Rule] = []
    if (claim := settings.golden.claim_elsewhere) is not None:
        rules += toolbox_rules(settings.claim_namespace or "", claim, dumps=settings.may_dump_there)
    for place in settings.all_sandboxes:
        if place.secret is not None:
            rules += secret_rules(SecretReference.parse(place.secret, f"{place.name}.secret"))
        if place.needs_forward:
            rules += forward_rules(_workload(place.forward, place.namespace, f"{place.name}.forward"))
        if place.erp.workload is not None:
            rules += scale_rules(_workload(place.erp.workload, place.namespace, f"{place.name}.erp.workload"))
        if place.documents is not None:
            workload = _documents_workload(place, place.documents)
            rules += [*ready_pod_rules(workload), *exec_rules(workload.namespace)]
    return rules
