"""Serves a trained run, or an exported one, over HTTP.

    python -m serving.http --workdir=runs/f8k --port=8000
    python -m serving.http --export=captioner --port=8000
    curl --data-binary @photo.jpg localhost:8000/caption

The page at / takes pictures that are dropped on it. Routes and limits: serving/app.py.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from serving import flags as command
from serving.exported import load
from serving.program import Program, keep_compiled


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.http", description=__doc__)
    command.add_run(parser, required=False)
    parser.add_argument("--export", help="folder of `python -m serving.export`, not a --workdir")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: every address (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (8000)")
    parser.add_argument("--batch_size", type=int, default=8, help="pictures at once (8)")
    parser.add_argument("--max_mb", type=float, default=16, help="largest body in MiB (16)")
    return parser.parse_args(arguments)


def captioner(flags: argparse.Namespace) -> Program:
    """What the flags name. Raises ValueError or OSError, one sentence."""
    if bool(flags.workdir) == bool(flags.export):
        raise ValueError("give either --workdir=RUN or --export=FOLDER.")
    if flags.batch_size < 1:
        raise ValueError(f"--batch_size={flags.batch_size}: at least one picture at once.")
    if flags.export:
        if given := command.settled(flags):
            raise ValueError(
                f"--{given[0]} was settled by the export; leave it out, or export anew."
            )
        return load(flags.export, batch_size=flags.batch_size)
    from serving.caption import Photographs  # an exported program needs neither flax nor models/

    run = Photographs(flags.workdir, batch_size=flags.batch_size, **command.options(flags))
    if run.draws:
        raise ValueError(
            "mode=sample: what is drawn would depend on the pictures that share a batch; add "
            "--decode mode=beam."
        )
    return run


def _libraries() -> tuple[Any, Callable[..., Any]]:
    """(uvicorn, make_app). Raises ValueError where the extra is not installed."""
    try:
        import uvicorn

        from serving.app import make_app
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: pip install -e '.[serve]'") from None
    return uvicorn, make_app


def bind(host: str, port: int) -> socket.socket:
    """The address taken, not yet listened at. Raises ValueError where it cannot be had."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        raise ValueError(f"--host={host} --port={port}: {error}; choose another.") from None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 after Ctrl-C, 2 where there is nothing to serve or nowhere to."""
    flags = _parse(arguments)
    keep_compiled()
    try:
        uvicorn, make_app = _libraries()
        address = bind(flags.host, flags.port)  # before the wait for the program
        program = captioner(flags)
        program.warm()
    except (ValueError, OSError) as error:
        print(f"serving.http: {error}", file=sys.stderr)
        return 2
    app = make_app(program, max_bytes=int(flags.max_mb * 2**20))
    server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=10))
    host = f"[{flags.host}]" if ":" in flags.host else flags.host
    print(f"serving.http: ready at http://{host}:{address.getsockname()[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[address])
    return 0


if __name__ == "__main__":
    sys.exit(main())
