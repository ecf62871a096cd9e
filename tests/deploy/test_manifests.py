"""The Kubernetes manifests: valid on the oldest and the newest version claimed, and consistent with the settings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.access.auth import ApiKeys
from gateway.access.principal import Principal
from gateway.server import shutdown_s
from gateway.settings import GatewaySettings
from shared.models import load_models
from tests.support.redis import skip_or_fail
from worker.settings import WorkerSettings

FOLDER = Path("deploy/k8s")
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
HAND_OVER_S = 15
DOCKERFILE = Path("deploy/docker/Dockerfile").read_text()
RUNBOOK = Path("deploy/README.md").read_text()


def documents() -> list[dict[str, Any]]:
    return [document for path in FILES for document in yaml.safe_load_all(path.read_text())]


def deployment(component: str) -> dict[str, Any]:
    found = [d for d in documents() if d["kind"] == "Deployment" and d["metadata"]["name"] == f"tailrace-{component}"]
    assert len(found) == 1
    spec: dict[str, Any] = found[0]["spec"]
    return spec


def container(component: str) -> dict[str, Any]:
    first: dict[str, Any] = deployment(component)["template"]["spec"]["containers"][0]
    return first


def variables(component: str) -> dict[str, str]:
    return {item["name"]: item.get("value", "") for item in container(component)["env"]}


def kustomization() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return read


def settings_map() -> set[str]:
    [made] = [made for made in kustomization()["configMapGenerator"] if made["name"] == "tailrace"]
    return {line.partition("=")[0] for line in made["literals"]}


def rendered(folder: Path) -> list[dict[str, Any]]:
    """Return what `kubectl apply -k` would send; skips where no program can tell."""
    for argv in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(argv[0]):
            done = subprocess.run([*argv, str(folder)], capture_output=True, text=True, timeout=60, check=True)
            return list(yaml.safe_load_all(done.stdout))
    skip_or_fail("neither kustomize nor kubectl is on PATH")


def maps_of(documents: list[dict[str, Any]], component: str) -> set[str]:
    """Return the names of the ConfigMaps that a component's pods read."""
    [pod] = [
        d["spec"]["template"]["spec"]
        for d in documents
        if (d["kind"], d["metadata"]["name"]) == ("Deployment", f"tailrace-{component}")
    ]
    return {
        *(source["configMapRef"]["name"] for source in pod["containers"][0]["envFrom"]),
        *(volume["configMap"]["name"] for volume in pod["volumes"]),
    }


@pytest.mark.parametrize("version", ["1.29", "1.36"])
def test_every_manifest_is_valid(version: str) -> None:
    validate = Path(sys.executable).with_name("kubernetes-validate")
    command = [str(validate), "--strict", "-k", version, *map(str, FILES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kustomization_names_every_file() -> None:
    assert sorted(kustomization()["resources"]) == [path.name for path in FILES]
    made_from = {name for made in kustomization()["configMapGenerator"] for name in made.get("files", ())}
    assert made_from == {path.name for path in FOLDER.iterdir()} - {path.name for path in FOLDER.glob("*.yaml")}


def test_the_models_are_a_models_file() -> None:
    assert load_models(str(FOLDER / "models.toml"), {}).default == "gpt-4o-mini"


def test_a_change_of_the_configuration_rolls_every_pod(tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "k8s")
    before = rendered(copy)
    names = {d["metadata"]["name"] for d in before if d["kind"] == "ConfigMap"}
    for component in ("gateway", "worker"):
        assert maps_of(before, component) == names
    with (copy / "models.toml").open("a") as file:
        file.write('[[models]]\nname = "another"\n')
    for component in ("gateway", "worker"):
        # The settings stay what they were; the models are under another name now.
        assert len(maps_of(rendered(copy), component) & names) == 1


@pytest.mark.parametrize("component", ["gateway", "worker"])
def test_no_pod_goes_before_its_successor_is_ready(component: str) -> None:
    spec = deployment(component)
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    probes = container(component)
    assert probes["readinessProbe"]["httpGet"]["path"] != probes["livenessProbe"]["httpGet"]["path"]
    budgets = [d["metadata"]["name"] for d in documents() if d["kind"] == "PodDisruptionBudget"]
    assert f"tailrace-{component}" in budgets


def test_the_gateways_grace_covers_its_whole_way_out() -> None:
    grace = deployment("gateway")["template"]["spec"]["terminationGracePeriodSeconds"]
    command = container("gateway")["lifecycle"]["preStop"]["exec"]["command"][-1]
    delay = int(command.rpartition("(")[2].rstrip(")"))
    drain = float(variables("gateway")["TAILRACE_DRAIN_S"])
    assert delay > 0
    assert grace > delay + drain + shutdown_s(GatewaySettings())


def test_the_workers_grace_covers_drain_and_hand_over() -> None:
    grace = deployment("worker")["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= float(variables("worker")["TAILRACE_WORKER_DRAIN_S"]) + HAND_OVER_S


@pytest.mark.parametrize(("component", "settings"), [("gateway", GatewaySettings), ("worker", WorkerSettings)])
def test_every_variable_is_a_setting(component: str, settings: type[GatewaySettings] | type[WorkerSettings]) -> None:
    known = {f"TAILRACE_{name.upper()}" for name in settings.model_fields}
    assert {name for name in {*variables(component), *settings_map()} if name.startswith("TAILRACE_")} <= known


def commands() -> str:
    """Return the runbook's way to running pods."""
    [block] = re.findall(r"<!-- example: kubernetes -->\n```sh\n(.*?)```", RUNBOOK, re.DOTALL)
    return str(block)


@pytest.mark.parametrize("component", ["gateway", "worker"])
def test_the_runbooks_commands_make_what_a_pod_needs(component: str) -> None:
    name = f"tailrace-{component}"
    assert f"AS {component}\n" in DOCKERFILE
    assert f"docker build --target {component} -f deploy/docker/Dockerfile -t $IMAGES/{name}:$TAG ." in commands()
    assert f"docker push $IMAGES/{name}:$TAG" in commands()
    assert f"{name}=$IMAGES/{name}:$TAG" in commands()
    assert f"kubectl rollout status deployment/{name}" in commands()
    assert container(component)["image"] == name
    assert name in {image["name"] for image in kustomization()["images"]}
    made = {
        (secret, key)
        for secret, values in re.findall(r"kubectl create secret generic (\S+) (.*)", commands())
        for key in re.findall(r"--from-(?:literal|file)=([\w-]+)", values)
    }
    asked = [item["valueFrom"]["secretKeyRef"] for item in container(component)["env"] if "valueFrom" in item]
    assert {(reference["name"], reference["key"]) for reference in asked} <= made


def test_the_runbooks_key_is_one() -> None:
    [line] = re.findall(r'^echo "(.*)" > api-keys$', commands(), re.MULTILINE)
    assert ApiKeys(line.replace("$(openssl rand -hex 24)", "a1b2") + "\n").find("a1b2") == Principal("acme", "alice")


@pytest.mark.parametrize("component", ["gateway", "worker"])
def test_the_pods_user_is_the_images(component: str) -> None:
    [uid] = re.findall(r"--uid (\d+)", DOCKERFILE)
    assert deployment(component)["template"]["spec"]["securityContext"]["runAsUser"] == int(uid) > 0


@pytest.mark.parametrize("component", ["gateway", "worker"])
def test_a_pod_holds_nothing_that_it_does_not_need(component: str) -> None:
    assert deployment(component)["template"]["spec"]["automountServiceAccountToken"] is False
    assert container(component)["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def test_every_image_has_a_registry_and_a_tag() -> None:
    images = [
        d["spec"]["template"]["spec"]["containers"][0]["image"] for d in rendered(FOLDER) if d["kind"] == "Deployment"
    ]
    assert len(images) == 2
    assert all(re.fullmatch(r"[\w.]+/[\w-]+:[\w.]+", image) for image in images)


@pytest.mark.parametrize("component", ["gateway", "worker"])
def test_a_network_policy_lets_in_who_must_come(component: str) -> None:
    [policy] = [
        d["spec"]
        for d in documents()
        if (d["kind"], d["metadata"]["name"]) == ("NetworkPolicy", f"tailrace-{component}")
    ]
    assert policy["podSelector"] == deployment(component)["selector"]
    [rule] = policy["ingress"]
    # By name, the one port that the container has. Whoever may come to a worker is named.
    assert [port["port"] for port in rule["ports"]] == [port["name"] for port in container(component)["ports"]]
    assert bool(rule.get("from")) == (component == "worker")


def test_every_object_says_which_part_it_belongs_to() -> None:
    """So that `-l app.kubernetes.io/component!=gateway` is the workers and what they need, and nothing else."""
    for document in documents():
        component = document["metadata"]["name"].removeprefix("tailrace-")
        labels = {"app.kubernetes.io/name": "tailrace", "app.kubernetes.io/component": component}
        assert document["metadata"]["labels"] == labels, document["kind"]
    assert kustomization()["generatorOptions"]["labels"]["app.kubernetes.io/component"] == "config"
    assert "-l 'app.kubernetes.io/component!=gateway'" in RUNBOOK
