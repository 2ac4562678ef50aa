"""The Jobs of deploy/, as they are written."""

from __future__ import annotations

from pathlib import Path

import yaml

JOBS = Path(__file__).parents[2] / "deploy" / "kubernetes" / "jobs"


def test_the_rehearsal_may_only_read_the_golden_dumps() -> None:
    job = yaml.safe_load((JOBS / "rehearse.yaml").read_text(encoding="utf-8"))
    spec = job["spec"]["template"]["spec"]
    claims = [volume["name"] for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert claims
    assert {claim: mounts[claim] for claim in claims} == dict.fromkeys(claims, True)
