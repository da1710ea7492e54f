"""A captioner over HTTP: pictures in by POST, captions out as JSON, and a page for people.

    POST /caption?n_best=3               the bytes of an image file -> {"caption", "logprob", ...}
    POST /v1/models/captioner:predict    {"instances": [{"b64": ...}]} -> {"predictions": [...]}
    GET  /healthz, /                     200 when compiled and ready; the page

Every answer that isn't a caption is {"error": one sentence}. The second shape is TF Serving's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from data import images
from serving.batcher import Batcher
from serving.program import Program, as_json

NBest = Annotated[int, Query(ge=1)]
INSTANCES = 'send {"instances": [{"b64": "..."}, ...]}, each the base64 of an image file'
# Nothing from elsewhere is loaded or asked, whatever a caption says.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
POLICY += "img-src blob:; connect-src 'self'"


def make_app(
    program: Program, *, max_bytes: int = 2**24, max_inside: int = 64, seconds: float = 30.0
) -> FastAPI:
    """The application, for uvicorn or any ASGI server; it compiles before it is ready.

    max_bytes   of a request's body; 413 beyond
    max_inside  requests at once, and pictures in a request; 503 and 400 beyond
    seconds     that a body may take to arrive; 408 beyond
    """
    service = Service(program, max_bytes, max_inside, seconds)
    app = FastAPI(
        title="Capax", lifespan=service.lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.get("/", response_class=HTMLResponse)(service.page)
    app.get("/healthz")(service.health)
    app.post("/caption")(service.caption)
    app.post("/v1/models/captioner:predict")(service.predict)
    app.exception_handler(AnyHTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(Exception)(_failed)
    return app


class Service:
    """What the routes do; see make_app."""

    def __init__(self, program: Program, max_bytes: int, max_inside: int, seconds: float):
        self._program, self._max_bytes = program, max_bytes
        self._max_inside, self._seconds = max_inside, seconds
        self._inside = 0
        self._html = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(self._program.warm)
        # A picture of 100 megapixels takes 300 MB while it is decoded, so not all at once.
        decoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "decoder")
        batcher = Batcher(self._program.n_best, self._program.batch_size)
        with decoders as self._decoders, batcher as self._batcher:
            yield

    async def page(self) -> HTMLResponse:
        return HTMLResponse(self._html, headers={"Content-Security-Policy": POLICY})

    async def health(self) -> dict[str, str]:
        return {"status": "ok"}

    async def caption(self, request: Request, n_best: NBest = 1) -> dict[str, Any]:
        """The body is an image file."""
        with self._admitted():
            (found,) = await self._captions([await self._body(request)], ["the body"], n_best)
        return found

    async def predict(self, request: Request, n_best: NBest = 1) -> dict[str, Any]:
        """The body is JSON as TF Serving takes it; all instances are captioned, or none."""
        with self._admitted():
            files = _instances(await self._body(request))
            if len(files) > (most := self._max_inside):
                raise HTTPException(400, f"{len(files)} instances at once: send at most {most}")
            names = [f"instances[{i}]" for i in range(len(files))]
            return {"predictions": await self._captions(files, names, n_best)}

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._inside >= self._max_inside:
            again = {"Retry-After": "1"}
            raise HTTPException(503, "too many requests at once: try again in a second", again)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._max_bytes:
                        limit = f"{self._max_bytes / 2**20:g} MiB"
                        raise HTTPException(413, f"the body is larger than {limit}: shrink it")
        except TimeoutError:
            late = f"the body did not arrive within {self._seconds:g} s: send it faster"
            raise HTTPException(408, late) from None
        except ClientDisconnect:
            raise HTTPException(400, "the client left before its body was complete") from None
        return bytes(body)

    async def _captions(
        self, files: Sequence[bytes], names: Sequence[str], n: int
    ) -> list[dict[str, Any]]:
        """Image files -> one object each. 400, a sentence with the file's name, for a bad one."""
        loop, pairs = asyncio.get_running_loop(), zip(files, names, strict=True)
        jobs = [loop.run_in_executor(self._decoders, self._load, *pair) for pair in pairs]
        try:
            pixels = await asyncio.gather(*jobs)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        answers = [asyncio.wrap_future(self._batcher.ask(one)) for one in pixels]
        return [as_json(captions[:n]) for captions in await asyncio.gather(*answers)]

    def _load(self, file: bytes, name: str) -> np.ndarray:
        size, share = self._program.image_size, self._program.image_crop
        return images.load(lambda: file, name, size, share=share)


def _instances(body: bytes) -> list[bytes]:
    try:
        rows = json.loads(body)["instances"]
        return [base64.b64decode(row["b64"], validate=True) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HTTPException(400, f"the body is no such JSON: {INSTANCES}") from None


async def _refused(_: Request, error: AnyHTTPException) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    name, given = first["loc"][-1], first["input"]
    return JSONResponse({"error": f"{name}={given}: {first['msg'].lower()}"}, 400)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "captioning failed: the server's log says why"}, 500)
