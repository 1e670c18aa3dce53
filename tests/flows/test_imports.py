"""Importing defines things and does nothing: no network, no server, no settings of a profile."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORT_ALL = """
import importlib, importlib.machinery, importlib.util, pkgutil, socket

def refuse(*args, **kwargs):
    raise AssertionError("a module used the network at import")

socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.create_connection = refuse
names = []
for package in ("catalog", "tasks", "flows"):
    found = importlib.import_module(package)
    names += [module.name for module in pkgutil.walk_packages(found.__path__, package + ".")]
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        loader = importlib.util.find_spec(name).loader
        is_library = isinstance(loader, importlib.machinery.ExtensionFileLoader) and "PyInit_" in str(error)
        if not is_library:  # without the headers of Python it is no module; ctypes loads it all the same
            raise
from tasks.dictionaries.kernels import native
built = [name for name in names if name.endswith("._native")]
assert len(built) <= 1 and native.describe()[0] == bool(built), native.describe()
print(len(names))
"""


def test_every_module_imports_without_network_and_server(tmp_path: Path) -> None:
    left_out = ("PREFECT_", "FEATLAS_KERNELS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environment |= {"PREFECT_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 100
    assert not (tmp_path / "home" / "prefect.db").exists()


def test_light_commands_import_neither_torch_nor_prefect(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.argv = ['featlas', 'sql', 'select 1 as one', '--format', 'csv', '--catalog', sys.argv[1]]\n"
        "from flows.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'prefect', 'transformers', 'openai', 'streamlit'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "catalogue")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "one\n1\n"
