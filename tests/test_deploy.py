"""What is in deploy/: it parses, its parts fit each other, and its commands are those of this version of `aero`."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from aero.cli.main import app

DEPLOY = Path(__file__).parent.parent / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OBJECTS = {
    one["kind"]: one for path in (DEPLOY / "kubernetes").iterdir() for one in yaml.safe_load_all(path.read_text())
}
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
UNIT = (DEPLOY / "aero.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")


def arguments() -> dict[str, list[str]]:
    """Every command line of ours, by where it stands."""
    found = {
        "systemd": shlex.split(re.search(r"^ExecStart=\S+/aero (.*)$", UNIT, re.MULTILINE)[1]),
        "Deployment": POD["containers"][0]["args"],
    }
    found |= {f"compose {name}": service["command"] for name, service in COMPOSE["services"].items()}
    for number, command in enumerate(re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)):
        found[f"Dockerfile {number}"] = yaml.safe_load(command)
    return found


@pytest.mark.parametrize("where", arguments())
def test_commands_are_those_of_this_version(where):
    """Its options are: with --help behind them all are read, and nothing is run."""
    done = CliRunner().invoke(app, [*arguments()[where], "--help"])
    assert done.exit_code == 0, done.output


def test_an_option_of_another_version_would_be_noticed():
    assert CliRunner().invoke(app, [*arguments()["systemd"], "--no-such-option", "1", "--help"]).exit_code == 2


def options(where: str) -> dict[str, str]:
    rest = arguments()[where]
    return {rest[i]: rest[i + 1] for i in range(len(rest) - 1) if rest[i].startswith("--")}


def test_a_server_is_given_the_time_that_it_takes_to_stop():
    assert float(options("Deployment")["--drain"]) < POD["terminationGracePeriodSeconds"]
    assert float(options("systemd")["--drain"]) < float(re.search(r"TimeoutStopSec=(\d+)", UNIT)[1])
    grace = COMPOSE["services"]["server"]["stop_grace_period"]
    assert float(options("compose server")["--drain"]) < float(grace.removesuffix("s"))


def test_nothing_runs_with_more_rights_than_it_needs():
    assert not POD["automountServiceAccountToken"] and POD["securityContext"]["runAsNonRoot"]
    for container in (*POD["initContainers"], *POD["containers"]):
        closed = container["securityContext"]
        assert closed["readOnlyRootFilesystem"] and not closed["allowPrivilegeEscalation"]
        assert closed["capabilities"] == {"drop": ["ALL"]} and container["resources"]["limits"]["memory"]
    for service in COMPOSE["services"].values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    user = re.search(r"^USER (\d+):", DOCKERFILE, re.MULTILINE)[1]
    assert int(user) == POD["securityContext"]["runAsUser"] > 0
    assert f"--uid {user}" in DOCKERFILE
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "User=aero"):
        assert line in UNIT.splitlines()


def test_the_objects_name_each_other():
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [OBJECTS[kind]["spec"]["selector"].get("matchLabels") for kind in ("Deployment", "PodDisruptionBudget")]
    assert [*selectors, OBJECTS["Service"]["spec"]["selector"]] == [labels] * 3
    assert OBJECTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    ports = {port["name"] for container in POD["containers"] for port in container["ports"]}
    assert {port["targetPort"] for port in OBJECTS["Service"]["spec"]["ports"]} <= ports
    allowed = {port["port"] for rule in OBJECTS["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]}
    assert allowed == ports
    open_to_all = [rule["ports"] for rule in OBJECTS["NetworkPolicy"]["spec"]["ingress"] if "from" not in rule]
    assert open_to_all == [[{"port": "private"}]]
    assert OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "aero"
    volumes = {volume["name"] for volume in POD["volumes"]}
    mounted = {m["name"] for c in (*POD["initContainers"], *POD["containers"]) for m in c["volumeMounts"]}
    assert mounted == volumes
    paths = {mount["mountPath"] for mount in POD["containers"][0]["volumeMounts"]}
    assert {arguments()["Deployment"][1], options("Deployment")["--keys"]} <= paths
    targets = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    for service in COMPOSE["services"].values():
        assert service["build"]["target"] in targets and service["image"] == f"aero-{service['build']['target']}"
    assert {container["image"] for container in (*POD["initContainers"], *POD["containers"])} == {"aero-server"}


def test_probes_and_the_metric_are_those_of_the_server():
    source = (DEPLOY.parent / "src" / "aero" / "serve" / "metrics.py").read_text()
    server = POD["containers"][0]
    port = next(port["containerPort"] for port in server["ports"] if port["name"] == "metrics")
    assert options("Deployment")["--metrics"].endswith(f":{port}")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert server[probe]["httpGet"]["port"] == "metrics"
        assert f'"{server[probe]["httpGet"]["path"]}"' in source
    metric = OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]
    assert metric["metric"]["name"] == "aero_server_sessions" and '"aero_server_{name}"' in source
    assert int(metric["target"]["averageValue"]) < int(options("Deployment")["--sessions"])


def test_what_the_image_is_built_from_is_in_its_context():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    assert copied == kept and all((DEPLOY.parent / name).exists() for name in kept)
