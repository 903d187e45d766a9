"""Pages over HTTP/1.1, served by hypercorn's connections under a guard of our own: the accept loop
is ours, too (`accepting`).
"""

import resource
import sys
from logging import getLogger

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from marketprism.board.board import Board
from marketprism.observe.accepting import accept, listen
from marketprism.observe.admission import Admission
from marketprism.observe.guard import HEAD_WITHIN, Guard, Server
from marketprism.observe.host_header import OwnNames
from marketprism.observe.pages import App

MOST_REQUESTS = 100
"""Of one connection; whoever has more to ask comes again."""
GRACE = 1.0
"""Seconds for requests under way when the server is told to stop."""
MAX_HEAD_BYTES = 8 * 1024


async def serve(
    app: App,
    host: str,
    port: int,
    *,
    board: Board,
    variables: str = "HEALTH_CHECK",
    shutdown: trio.Event | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled, or until `shutdown`: then what is under way has `GRACE` seconds.

    Started with the port, once it is bound; port 0 asks for a free one. `variables` is what the
    environment variables that choose host and port begin with, for the words of an error.

    Raises:
        StartFailed: the address cannot be had.
        Lost: it can no longer be listened to.
    """
    listener = await listen(host, port, variables)
    bound = listener.getsockname()
    names = OwnNames(host, bound[0])
    context = WorkerContext(None)
    server = Server(app, _config(), context, board, names, Admission(_descriptors()))

    async def handle(stream: trio.SocketStream) -> None:
        await Guard(server, stream).run()

    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as listening:
                listening.start_soon(accept, handle, listener, connections, server.give_way)
                task_status.started(bound[1])
                if shutdown is None:
                    await trio.sleep_forever()
                else:
                    await shutdown.wait()
                listening.cancel_scope.cancel()
        finally:
            listener.close()
        await context.terminated.set()  # what is idle ends now
        server.dismiss()
        connections.cancel_scope.deadline = trio.current_time() + GRACE


def _descriptors() -> int:
    """How many this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _config() -> Config:
    config = Config()
    config.errorlog = getLogger("hypercorn")
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.keep_alive_timeout = HEAD_WITHIN
    config.keep_alive_max_requests = MOST_REQUESTS
    config.read_timeout = round(HEAD_WITHIN)
    return config
