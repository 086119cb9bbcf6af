"""Text to pretrain on for `packages`: the standard library's, without the files that are scored there."""

import sysconfig
from pathlib import Path
from typing import Any

from suites.data.packages import code, of_packages, shared_out
from suites.data.stdlib import corpus, library_sources


def prepare(folder: Path) -> dict[str, Any]:
    """Return the manifest of the corpus below `folder`; of the six packages it has files of the training part only."""
    sources = library_sources(Path(sysconfig.get_paths()["stdlib"]))
    packages = of_packages(sources)
    training = shared_out({name: code(path.read_bytes()) for name, path in packages.items()})["train"]
    hidden = packages.keys() - {name for mine in training for name in mine}
    seen = {name: path for name, path in sources.items() if name not in hidden}
    return {**corpus(seen, folder), "name": "packages_text"}
