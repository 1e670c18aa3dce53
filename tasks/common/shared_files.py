"""Files that several folders of the catalogue hold, on disk once."""

import os
import shutil
from pathlib import Path


def share_file(source: Path, target: Path) -> None:
    """One file under two names; a copy if the file system does not support that."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
