"""How far the workers are within a batch: they send datagrams, and the driver moves its bar.

Spark tells a driver of tasks that ended, and a task is many windows. Datagrams need no
SparkContext, block no worker and fail no task; where none arrive the bar moves by commits, which
are the truth.
"""

import secrets
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from longattn.etl.run.progress import Tick
from longattn.udfs.scorers.beacon import Beacon

POLL = 0.2  # seconds between looks at whether it is over


class Heartbeats:
    """Windows that workers have told of, by batch; a batch's end sets right what was lost."""

    def __init__(self, tick: Tick, host: str | None, port: int) -> None:
        self.tick = tick
        self.host, self.port = host, port
        self.told: Counter[str] = Counter()
        self.lock = threading.Lock()

    def beacon(self) -> Beacon | None:
        """For a new batch; None where workers cannot reach this machine."""
        if self.host is None:
            return None
        beacon = Beacon(self.host, self.port, secrets.token_hex(8))
        with self.lock:
            self.told[beacon.batch] = 0
        return beacon

    def hear(self, datagram: bytes) -> None:
        """Count windows of a batch that is being scored; anything else is noise."""
        batch, _, count = datagram.decode(errors="replace").partition(" ")
        with self.lock:
            if batch in self.told and count.isdecimal():
                self.told[batch] += int(count)
                self.tick(int(count))

    def finish(self, beacon: Beacon | None, n_windows: int) -> None:
        """The batch is committed: its windows count once, whatever was told, lost or retried."""
        with self.lock:
            self.tick(n_windows - (self.told.pop(beacon.batch, 0) if beacon else 0))


@contextmanager
def heartbeats(spark: SparkSession, tick: Tick) -> Iterator[Heartbeats]:
    """Listen while the block runs, where the workers know the driver's address."""
    host = _driver_host(spark)
    if host is None:
        yield Heartbeats(tick, None, 0)
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as listener:
        try:
            listener.bind((host, 0))
        except OSError:  # a name of the driver that only its workers can resolve
            yield Heartbeats(tick, None, 0)
            return
        listener.settimeout(POLL)
        beats, over = Heartbeats(tick, host, listener.getsockname()[1]), threading.Event()
        thread = threading.Thread(target=_listen, args=(listener, beats, over), daemon=True)
        thread.start()
        try:
            yield beats
        finally:
            over.set()
            thread.join()


def _listen(listener: socket.socket, beats: Heartbeats, over: threading.Event) -> None:
    while not over.is_set():
        try:
            beats.hear(listener.recv(256))
        except TimeoutError:
            continue


def _driver_host(spark: SparkSession) -> str | None:
    """The address by which executors reach this process; none with Spark Connect."""
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        return None
    host: str | None = spark.conf.get("spark.driver.host", None)
    return host
