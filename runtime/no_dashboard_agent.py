"""Stands for the agent through which Ray's dashboard looks at a node, where there is no dashboard. A program, which a
raylet starts and which imports nothing but Python's own, since the raylet waits for it:

    python no_dashboard_agent.py .../dashboard/agent.py --session-dir=... --node-id=... ...

It says of each port that there is none, as Ray's own does when it is installed without a dashboard, and ends with the
raylet. A raylet ends when its agent does.
"""

import os
import sys

PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
NONE = "-1"


def say_there_is_none(session: str, node: str) -> None:
    """Writes each port's file whole, since the raylet reads it as soon as it is there."""
    for port in PORTS:
        path = os.path.join(session, f"{port}_{node}")
        with open(f"{path}.new", "w") as file:
            file.write(NONE)
        os.rename(f"{path}.new", path)


if __name__ == "__main__":
    told = dict(word[2:].split("=", 1) for word in sys.argv if word.startswith("--") and "=" in word)
    say_there_is_none(told["session-dir"], told["node-id"])
    while sys.stdin.buffer.read(1):  # the raylet holds the other end
        pass
