"""A worker next to `featlas up`: ``python -m flows.worker --pool featlas-gpu --name gpu1``.

It is for further GPUs and machines. It finds the key of the server itself if it runs as the user of
`featlas up` on the same machine; elsewhere ``PREFECT_API_AUTH_STRING`` holds the key.
"""

import argparse
import os
import sys

from catalog.errors import UserError
from flows.engine import connect_engine, prefect_home, private_temporary


def worker_command(pool: str, name: str, limit: int) -> list[str]:
    """The command line of a worker that serves ``pool`` and runs ``limit`` flows at once."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process"]
    command += ["--install-policy", "never", "--pool", pool, "--name", name, "--limit", str(limit)]
    return command


def main() -> None:
    """Replace this process with a worker of the server at ``PREFECT_API_URL``."""
    parser = argparse.ArgumentParser(prog="python -m flows.worker")
    parser.add_argument("--pool", default="featlas-gpu")
    parser.add_argument("--name", required=True)
    parser.add_argument("--limit", type=int, default=1)
    chosen = parser.parse_args()
    try:
        if not os.environ.get("PREFECT_API_URL"):
            raise UserError("PREFECT_API_URL is not set: name the server, as in http://127.0.0.1:4200/api")
        connect_engine()
        os.environ["TMPDIR"] = str(private_temporary(prefect_home()))
    except UserError as error:
        sys.exit(f"featlas: {error}")
    command = worker_command(chosen.pool, chosen.name, chosen.limit)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
