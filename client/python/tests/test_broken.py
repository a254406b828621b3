"""Connections that break while a call is under way."""

import asyncio
import contextlib
import socket
import threading

import pytest

import isthmus
from fake import accept_all
from isthmus import _wire as wire


class Wire:
    """Passes bytes on between a client and a server, until it is cut."""

    def __init__(self, target):
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            host, port = self._target.rsplit(":", 1)
            far = socket.create_connection((host, int(port)))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass(one, other):
        try:
            while True:
                found = one.recv(65_536)
                if not found:
                    return
                other.sendall(found)
        except OSError:
            return

    def cut(self):
        """Breaks all connections; new ones may be made."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open = []

    def close(self):
        self._listener.close()
        self.cut()


@pytest.fixture
def line(fake):
    line = Wire(fake.endpoint)
    yield line
    line.close()


def cut_once(line, answer):
    """Cuts the line at the first call, behind what it did."""
    left = [None]

    def cutting(request, context):
        answered = answer(request, context)
        if left:
            left.pop()
            line.cut()
        return answered

    return cutting


def test_reads_and_batches_are_made_again_and_a_write_that_must_happen_once_is_not(fake, line):
    with isthmus.Client(line.endpoint) as hub:
        fake.answers["Status"] = cut_once(line, lambda request, context: wire.StatusResponse(cluster_id="c"))
        assert hub.cluster.status().cluster_id == "c"
        assert len(fake.calls) == 2
        fake.answers["Ingest"] = cut_once(line, accept_all)
        assert hub.ingest([isthmus.identify("1")]).counts.accepted == 1
        one, other = (request.items[0].event.message_id for _, request, _ in fake.calls[2:])
        assert one == other
        fake.answers["Create"] = cut_once(line, lambda request, context: wire.CreateResponse())
        with pytest.raises(isthmus.OutcomeUnknownError):
            hub.sources.create("shop")
        assert len(fake.calls) == 5


def test_so_it_is_with_asyncio(fake, line):
    async def work():
        async with isthmus.aio.Client(line.endpoint) as hub:
            fake.answers["Status"] = cut_once(line, lambda request, context: wire.StatusResponse(cluster_id="c"))
            assert (await hub.cluster.status()).cluster_id == "c"
            fake.answers["Ingest"] = cut_once(line, accept_all)
            assert (await hub.ingest([isthmus.identify("1")])).counts.accepted == 1
            fake.answers["Create"] = cut_once(line, lambda request, context: wire.CreateResponse())
            with pytest.raises(isthmus.OutcomeUnknownError):
                await hub.sources.create("shop")
        assert len(fake.calls) == 5

    asyncio.run(asyncio.wait_for(work(), 120))
