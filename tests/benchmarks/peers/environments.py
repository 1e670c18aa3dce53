"""The environments of the peers: one each, under ``.bench/``, made once and kept."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[2]
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Peer:
    """A library that featlas is compared with."""

    name: str
    requirements: tuple[str, ...]
    worker: str
    methods: frozenset[str]
    unwanted: tuple[str, ...] = ()
    """What its requirements bring along and what breaks it."""

    @property
    def python(self) -> Path:
        """The Python of its environment."""
        return ROOT / ".bench" / self.name / "bin" / "python"


_ALL = frozenset({"topk", "batch_topk", "relu_l1", "jumprelu"})
PEERS = (
    Peer("sae-lens", ("sae-lens==6.54.12",), "sae_lens_worker.py", _ALL),
    Peer("eai-sparsify", ("eai-sparsify==1.3.3",), "sparsify_worker.py", frozenset({"topk"})),
    Peer(
        "dictionary-learning",
        ("dictionary-learning==0.1.0", "nnsight==0.3.7"),
        "dictionary_learning_worker.py",
        _ALL,
        unwanted=("torchvision",),
    ),
)


def make(peer: Peer) -> None:
    """Create the environment of a peer unless it is there; torch first, so that all have the same."""
    done = peer.python.parents[1] / ".installed"
    if done.exists():
        return
    print(f"installing {peer.name} into .bench/{peer.name} (once)", file=sys.stderr, flush=True)
    if not peer.python.exists():
        _run(sys.executable, "-m", "venv", str(peer.python.parents[1]))
    pip = (str(peer.python), "-m", "pip", "--disable-pip-version-check")
    _run(*pip, "install", "--quiet", TORCH)
    _run(*pip, "install", "--quiet", TORCH, *peer.requirements)
    if peer.unwanted:
        _run(*pip, "uninstall", "--quiet", "--yes", *peer.unwanted)
    done.touch()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    for each in PEERS:
        make(each)
