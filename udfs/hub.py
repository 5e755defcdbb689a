"""Files of a Hugging Face hub repository."""

import re
from pathlib import Path

from longattn.udfs.errors import ModelError, first_line


def may_be_hub_id(name: str) -> bool:
    """Whether a name that is no path could be a repository's: `owner/name` or `name`."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None


def from_hub(repo: str, name: str) -> Path | None:
    """A file of a hub repository; None where the repository has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, name))
    except Exception as error:  # one class per way to miss a network or a permission
        unreachable = isinstance(error, LocalEntryNotFoundError)  # offline, not "no such file"
        if isinstance(error, EntryNotFoundError) and not unreachable:
            return None
        reason = first_line(error)
        raise ModelError(f"model {repo}: no such folder, and the hub says: {reason}") from None
