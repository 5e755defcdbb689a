"""An export with a folder for each domain, weighed by whoever trains, without a new export."""

from collections import defaultdict
from collections.abc import Mapping
from os import PathLike

from longattn.etl.export.files import folder_of
from longattn.etl.export.read import opened
from longattn.udfs.errors import UserError, did_you_mean


def blend(
    path: str | PathLike[str], weights: Mapping[str, float] | None = None
) -> list[tuple[float, str]]:
    """Weights, which sum to 1, and what a trainer is to read with each.

    `weights` are those of domains; they need not sum to 1, and a domain that they leave out is not
    read. Without them a domain weighs what it has of the export's tokens. What is to be read is for
    `mds` the folder of a stream, for `megatron` the prefix of a shard, for other formats a file;
    shards share the weight of their domain by their tokens. Raises UserError where there is no
    export, for one without folders of domains, and for weights that cannot be.
    """
    folder, manifest = opened(path)
    if not manifest.get("by_domain"):
        raise UserError(f"{path}: its files hold all domains: export with `by_domain: true`")
    tokens = {domain: counts["tokens"] for domain, counts in manifest["domains"].items()}
    shares = _shares(path, tokens, weights or tokens)
    blended: dict[str, float] = defaultdict(float)
    for domain, share in shares.items():
        for file in manifest["files"]:
            if file["samples"] and file["name"].startswith(folder_of(domain)):
                place = f"{folder.path}/{_place(manifest['format'], file['name'])}"
                blended[place] += share * file["tokens"] / tokens[domain]
    return [(weight, place) for place, weight in blended.items()]


def _shares(
    path: str | PathLike[str], tokens: Mapping[str, int], weights: Mapping[str, float]
) -> dict[str, float]:
    for domain, weight in weights.items():
        if domain not in tokens:
            raise UserError(f"{path}: no domain {domain}{did_you_mean(domain, tokens)}")
        if not 0 <= weight < float("inf"):
            raise UserError(f"{path}: domain {domain}: a weight of {weight}")
    total = sum(weights.values())
    if not total:
        raise UserError(f"{path}: no domain has a weight above 0")
    return {domain: weight / total for domain, weight in weights.items() if weight}


def _place(format_name: str, name: str) -> str:
    """What a trainer is to read of a file: its folder, its prefix or itself."""
    if format_name == "mds":
        return name.rpartition("/")[0]
    return name.removesuffix(".bin") if format_name == "megatron" else name
