"""The real clock, the real randomness, and crash points that really kill: the ports of `contracts` for production."""

import os
import random
import signal
import time

from ..contracts.ports import Faults

CRASH_VARIABLE = "HANSE_CRASH_AT"
MARK_VARIABLE = "HANSE_CRASH_MARK"
ORDERS_VARIABLE = "HANSE_CRASH_ORDERS"


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class SystemEntropy:
    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def fraction(self) -> float:
        return random.random()


class CrashPoint:
    """Kills this process, as a power cut would, the n-th time it reaches one named point.

    Read from `HANSE_CRASH_AT`, `point` or `point:n`. With `HANSE_CRASH_MARK` naming a file, the crash leaves proof in
    it that it happened, and happens only while the file does not exist, so a restarted process goes on.
    """

    def __init__(self, point: str, countdown: int, mark: str | None) -> None:
        self._point = point
        self._countdown = countdown
        self._mark = mark

    def reach(self, point: str) -> None:
        if point == self._point and not self._spent():
            self._countdown -= 1
            if self._countdown <= 0:
                self._crash()

    def _spent(self) -> bool:
        return self._mark is not None and os.path.exists(self._mark)

    def _crash(self) -> None:
        if self._mark:
            with open(self._mark, "w", encoding="utf-8") as mark:
                mark.write(f"{self._point} {os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGKILL)


class CrashOrders:
    """Kills this process when it reaches a point for which there is an order: a file of that name in a folder.

    An order is carried out by one process, once; then the file is called `POINT.PID`, which proves it. So somebody who
    plays for hours can choose anew each time.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def reach(self, point: str) -> None:
        order = os.path.join(self._folder, point)
        if os.path.exists(order) and self._is_ours(order):
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_ours(self, order: str) -> bool:
        try:
            os.rename(order, f"{order}.{os.getpid()}")
        except FileNotFoundError:
            return False
        return True


def faults_from_environment() -> Faults | None:
    """The crash points that a test asked for, or none."""
    if orders := os.environ.get(ORDERS_VARIABLE):
        return CrashOrders(orders)
    wanted = os.environ.get(CRASH_VARIABLE)
    if not wanted:
        return None
    point, _, count = wanted.partition(":")
    return CrashPoint(point, int(count or 1), os.environ.get(MARK_VARIABLE))


def crash_points() -> dict[str, str]:
    """What a test put into this environment to have crash points in the processes it starts."""
    return {name: os.environ[name] for name in (CRASH_VARIABLE, MARK_VARIABLE, ORDERS_VARIABLE) if name in os.environ}
