"""Clusters of real processes on loopback, which can be killed, stopped and started again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import isthmus

T = TypeVar("T")

PATIENCE_SECONDS = 180.0
"""How long a test waits for what must come; only a broken build takes as long."""
LOOK_EVERY_SECONDS = 0.02
VARIABLE = "ISTHMUS_TEST_NODE"


def until(what: str, holds: Callable[[], T]) -> T:
    """Looks until something is so, and returns it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(LOOK_EVERY_SECONDS)
    raise AssertionError(f"waited in vain until {what}")


def node_program() -> Path | None:
    """The node's binary: the one that is named, else one that cargo built in this checkout."""
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise FileNotFoundError(f"{VARIABLE} names {named}, and there is no such file")
        return Path(named)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or Path(__file__).resolve().parents[3] / "target")
    for profile in ("debug", "release"):
        if (target / profile / "isthmus-node").is_file():
            return target / profile / "isthmus-node"
    return None


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, below those that systems give out by themselves.

    One of those could be taken by a connection, even by that of a client which tries it before its node listens.
    """
    found: list[int] = []
    listeners = []
    while len(found) < count:
        port = random.randrange(10_000, 30_000)
        try:
            listeners.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        found.append(port)
    for listener in listeners:
        listener.close()
    return found


class Cluster:
    """Three nodes, four shards, each with a replica on every node."""

    def __init__(self, program: Path, data: Path) -> None:
        self.program, self.data = program, data
        self.ports = [free_ports(3) for _ in range(3)]
        self.processes: list[subprocess.Popen[bytes] | None] = [None, None, None]
        self.endpoints = [f"127.0.0.1:{ports[0]}" for ports in self.ports]
        for index in range(3):
            self.launch(index)

    def launch(self, index: int) -> None:
        """Starts a node's process, by the same command each time."""
        grpc, http, peer = (f"127.0.0.1:{port}" for port in self.ports[index])
        command = [str(self.program), "serve", "--node-id", str(index + 1), "--grpc-listen", grpc]
        command += ["--http-listen", http, "--peer-listen", peer, "--shards", "4", "--replicas", "3"]
        command += ["--data-dir", str(self.data / f"node-{index + 1}")]
        command += ["--join", f"127.0.0.1:{self.ports[0][2]}"] if index else ["--bootstrap"]
        with (self.data / f"node-{index + 1}.log").open("ab") as log:
            self.processes[index] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )

    def client(self, **options: object) -> isthmus.Client:
        """A client of all nodes, patient with a slow machine."""
        return isthmus.Client(self.endpoints, **{"deadline": 30.0, **options})

    def healthy(self) -> None:
        """Waits until every shard has a leader and all its replicas."""
        with self.client(deadline=2.0) as hub:

            def healthy() -> bool:
                try:
                    status = hub.cluster.status()
                except isthmus.Error:
                    return False
                return status.healthy and status.nodes == 3

            until(f"the cluster is healthy (logs: {self.data})", healthy)

    def busiest(self) -> int:
        """The index of the node that leads most shards."""
        with self.client() as hub:
            leads = [replica.node for replica in hub.cluster.shards() if replica.role == "leader"]
        return max(range(3), key=lambda index: leads.count(index + 1))

    def kill(self, index: int) -> None:
        """Kills a node as a power cut would, but for the page cache, and waits until it is gone."""
        process = self.processes[index]
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        self.processes[index] = None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to every node."""
        for process in self.processes:
            if process is not None:
                os.kill(process.pid, number)

    def close(self) -> None:
        """Ends it."""
        for index, process in enumerate(self.processes):
            if process is not None:
                self.kill(index)
