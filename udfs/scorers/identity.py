"""What a scorer is called."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScorerId:
    """A scorer's name, and its version: the name, then all that its scores depend on."""

    name: str
    version: str

    @classmethod
    def of(cls, version: str) -> "ScorerId":
        """The id that a version, or a bare name, stands for.

        >>> ScorerId.of("recall:k=1024")
        ScorerId(name='recall', version='recall:k=1024')
        """
        return cls(version.partition(":")[0], version)

    def is_meant_by(self, named: str) -> bool:
        """Whether a setting that names a scorer, or a version of one, means this one."""
        return named in (self.name, self.version)
