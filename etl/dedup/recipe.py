"""How documents are compared: bands and rows that follow from the threshold, and a name."""

from dataclasses import dataclass
from functools import cached_property

from longattn.etl.config import Config, DedupConfig
from longattn.etl.config.identity import decisive
from longattn.etl.ingest.sources import inputs_of
from longattn.udfs.digest import fields_digest
from longattn.udfs.text.minhash import MinHash, choose_bands, s_curve

MAX_BAND_SIZE = 100  # texts of one band above which edges form a star
MARGIN = 4  # standard errors by which an estimate may fall short and still be verified


@dataclass(frozen=True)
class Recipe:
    """How documents are hashed and compared; `pairs` of two recipes never mix.

    `pairs.recipe` is the name, and after it the scope: a domain, or nothing where all are compared.
    """

    config: DedupConfig

    @cached_property
    def minhash(self) -> MinHash:
        config = self.config
        bands, rows = choose_bands(config.threshold, config.permutations)
        return MinHash(
            ngram=config.ngram,
            permutations=config.permutations,
            bands=bands,
            rows=rows,
        )

    @property
    def name(self) -> str:
        config = self.config
        verified = f"{config.verify}{config.threshold}-cap{MAX_BAND_SIZE}"
        return f"{self.minhash.recipe}-{config.scope}-{verified}@"

    @property
    def estimate_floor(self) -> float:
        """Estimate from which a pair is worth verifying, or final when signatures verify."""
        if self.config.verify == "signature":
            return self.config.threshold
        t = self.config.threshold
        return t - MARGIN * float((t * (1 - t) / self.config.permutations) ** 0.5)

    def describe(self) -> str:
        """One line: bands, rows and the S-curve."""
        bands, rows = self.minhash.bands, self.minhash.rows
        curve = ", ".join(f"{s:.2f}: {s_curve(s, bands, rows):.1%}" for s in _around(self.config))
        return f"dedup: {bands} bands of {rows} rows; share of pairs found at similarity {curve}"


def settings_of(config: Config) -> str:
    """Names what duplicates are decided by: sources, what they say of documents, `dedup`."""
    sources = [[name, spec.domain, spec.priority] for name, spec in inputs_of(config).sources]
    return fields_digest(
        sources=sorted(sources),
        min_tokens=config.ingest.min_tokens,
        max_tokens=config.ingest.max_tokens,
        tokenizer=config.tokenizer_path if config.ingest.counts_tokens else None,
        dedup=decisive(config.dedup),
    )[:16]


def _around(config: DedupConfig) -> list[float]:
    """Similarities at which the S-curve is shown: the threshold, and steps to both sides."""
    steps = (config.threshold + offset for offset in (-0.3, -0.2, -0.1, 0.0, 0.1))
    return [step for step in steps if 0 < step < 1]
