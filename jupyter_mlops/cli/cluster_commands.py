"""Commands about what runs are started on: what is free, the rights that one needs, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..config import MLOps
    from ..kubernetes.api import Api
    from ..kubernetes.rights import Subject


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


@click.command()
@click.option("--profile", "name", metavar="NAME", help="Whose Kubernetes and namespace; see `profiles`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def capacity(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Show which GPUs of the Kubernetes are free, who has the others, and what fits now.

    Without --profile it is that of the default profile, or of the only one on Kubernetes.
    """
    from ..kubernetes.survey import survey_of
    from .tables import capacity_table

    here = _front(ctx)
    found = survey_of(here.runs.config, name)
    if as_json:
        here.data(found.as_dict())
        return
    if found.capacity.kinds:
        here.show(capacity_table(found.capacity))
    else:
        here.say("No GPUs are known." if found.missing else "There are no GPUs.")
    if found.missing:
        here.say(
            f"Not all is known: you may not see {_listed(found.missing)}. "
            "`jupyter mlops rbac --all-namespaces` prints the rights to ask for."
        )


@click.command()
@click.option("--namespace", metavar="NS", help="Where runs are to be. Default: that of the profile or the kubeconfig.")
@click.option("--service-account", metavar="NAME", help="Who gets the rights: NAME of that namespace, or NS/NAME.")
@click.option("--user", metavar="NAME", help="Who gets the rights: a user.")
@click.option("--group", metavar="NAME", help="Who gets the rights: a group.")
@click.option("--interactive", is_flag=True, help="Also to reach ports of pods, for kernels and clusters in pods.")
@click.option("--all-namespaces", is_flag=True, help="Also to list nodes and all pods, for `capacity`.")
@click.pass_context
def rbac(
    ctx: click.Context,
    namespace: str | None,
    service_account: str | None,
    user: str | None,
    group: str | None,
    interactive: bool,
    all_namespaces: bool,
) -> None:
    """Print the Role and RoleBinding that runs on Kubernetes need, as YAML to apply.

    Without a name it is you who gets the rights, as the Kubernetes knows you. Nothing is changed.
    """
    import yaml

    from ..kubernetes.rights import binding_manifest, cluster_manifests, interactive_manifests, role_manifest
    from ..kubernetes.survey import who_am_i

    here = _front(ctx)
    api: Api | None = None
    named = (service_account, user, group) != (None, None, None)
    if namespace is None or not named:
        api = _api(here.runs.config, namespace)
        namespace = namespace or api.namespace
    subject = _subject(namespace, service_account, user, group)
    if subject is None:
        assert api is not None
        subject = who_am_i(api)
    manifests = [role_manifest(namespace=namespace), binding_manifest(subject, namespace=namespace)]
    if interactive:
        manifests += interactive_manifests(subject, namespace=namespace)
    if all_namespaces:
        manifests += cluster_manifests(subject)
    here.say(*yaml.safe_dump_all(manifests, sort_keys=False).splitlines())


@click.command()
@click.option("--profile", "name", metavar="NAME", help="The profile that is asked about. Default: the default one.")
@click.option(
    "--pod", "start_pod", is_flag=True, help="Also start a pod of the profile for a moment and look from there."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, name: str | None, start_pod: bool, as_json: bool) -> None:
    """Look whether everything that runs need is here, and say what to do where it is not.

    Nothing is started, here or in Kubernetes, unless --pod is given; its pod waits for a place as a run would, for five
    minutes at most, and is taken away. Ends with 1 when there is a problem.
    """
    from contextlib import suppress

    from ..doctor import diagnose
    from ..doctor.check import State
    from ..errors import ConfigError
    from .tables import checks_table

    here = _front(ctx)
    if name is not None:
        with suppress(ConfigError):  # which is a finding, while a name that does not exist is a slip of the pen
            here.runs.config.profile(name)
    tell = (lambda _sentence: None) if as_json else here.say
    checks = diagnose(lambda: here.runs.config, name, start_pod=tell if start_pod else None)
    if as_json:
        here.data([check.as_dict() for check in checks])
    else:
        here.show(checks_table(checks))
    if any(check.state is State.PROBLEM for check in checks):
        ctx.exit(1)


def _api(config: MLOps, namespace: str | None) -> Api:
    from ..errors import ProfileError
    from ..kubernetes.api import Api
    from ..kubernetes.survey import kubernetes_profile

    try:
        profile = kubernetes_profile(config, None)
    except ProfileError:
        return Api(None, namespace)
    return Api(profile.context, namespace or profile.namespace)


def _subject(
    namespace: str, service_account: str | None, user: str | None, group: str | None
) -> Subject | None:  # fmt: skip
    from ..errors import UsageError
    from ..kubernetes.rights import Subject
    from ..profile import DNS_LABEL, DNS_SUBDOMAIN

    if sum(each is not None for each in (service_account, user, group)) > 1:
        raise UsageError("More than one gets the rights.", hint="Name one: --service-account, --user or --group.")
    if DNS_LABEL.fullmatch(namespace) is None:
        raise UsageError(f"{namespace!r} is no name of a namespace.")
    if service_account is not None:
        before, slash, name = service_account.rpartition("/")
        where = before if slash else namespace
        if DNS_LABEL.fullmatch(where) is None or DNS_SUBDOMAIN.fullmatch(name) is None:
            raise UsageError(f"{service_account!r} is no service account.", hint="Write NAME or NAMESPACE/NAME.")
        return Subject("ServiceAccount", name, where)
    for kind, given in (("User", user), ("Group", group)):
        if given is not None:
            if not given.strip():
                raise UsageError(f"The {kind.lower()}'s name is empty.")
            return Subject(kind, given)
    return None


def _listed(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


COMMANDS = (capacity, rbac, doctor)
