"""The smallest foreign format, read and written: four tensors in one file."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from catalog.errors import UserError
from tasks.foreign.format import FORMATS, Format, Written
from tasks.foreign.record import Foreign

TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec")
FILE = "toy.safetensors"


@FORMATS.register("toy_format")
class ToyFormat(Format):
    """ReLU dictionaries of one hookpoint."""

    purpose = "reads and writes four tensors of a ReLU dictionary"

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        tensors = load_file(path / FILE)
        if set(tensors) != set(TENSORS):
            raise UserError(f"{path / FILE} needs the tensors {', '.join(TENSORS)}")
        return Foreign(source=str(path), activation="relu", **tensors)

    def write(self, written: Written, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = written.dictionary.state_dict()
        save_file({name: state[name].contiguous() for name in TENSORS}, folder / FILE)
