"""What a LongAttn score is called: everything that it depends on, read without torch."""

from pathlib import Path

from longattn.udfs.errors import ModelError
from longattn.udfs.models.artefact import ScorerManifest, read_manifest
from longattn.udfs.scorers.base import DTYPES, ScorerSpec


def longattn_version(spec: ScorerSpec) -> str:
    """The version of a LongAttn scorer from scorer.json and the settings alone."""
    return version_of(read_manifest(Path(spec.model)), spec)


def version_of(manifest: ScorerManifest, spec: ScorerSpec) -> str:
    """For example `longattn:SmolLM2-135M@ab12cd34:theta=100000:k=L/4:L0:f32:all`."""
    unknown = set(spec.layers) - set(manifest.layers)
    if unknown:
        raise ModelError(
            f"score.layers: the scorer {manifest.name} was built for layers {manifest.layers},"
            f" not {sorted(unknown)}: build it with --layers"
        )
    theta = spec.rope_theta or manifest.rope_theta
    parts = [
        f"longattn:{manifest.name}@{manifest.hash[:8]}",
        f"theta={theta:.10g}" if theta else "norope",
        f"k={spec.k or 'L/4'}",
        "L" + ",".join(map(str, spec.layers)),
        DTYPES[spec.dtype],
        _sampling(spec) if spec.sample_rows else "all",
    ]
    return ":".join(parts + ["bos"] * spec.bos)


def _sampling(spec: ScorerSpec) -> str:
    return f"rows={spec.sample_rows},keys={spec.sample_keys},seed={spec.seed}"
