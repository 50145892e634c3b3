"""Just enough of a CARLA server for a supervisor: it says who it is. Run as a script: tiny_server.py PORT [FAULTS...]

Faults: `dies` (at once, with last words), `mute` (accepts and never answers), `old` (another version), `dirty` (built
from source), `deaf` (nobody can connect to its streams), `stubborn` (does not end when asked to), `leaks` (100 MB at
the third connection).
"""

from __future__ import annotations

import signal
import socket
import struct
import sys

import msgpack

VERSIONS = {"old": "0.9.13", "dirty": "0.9.16-dirty"}


def serve(port: int, faults: list[str]) -> None:
    print(f"tiny server on {port}", flush=True)
    if "dies" in faults:
        sys.exit("GPU crashed or D3D device removed")
    if "stubborn" in faults:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    version = next((VERSIONS[fault] for fault in faults if fault in VERSIONS), "0.9.16")
    streams = socket.socket()
    streams.bind(("127.0.0.1", 0))
    if "deaf" not in faults:
        streams.listen()
    token = struct.pack("<IHBB16x", 1, streams.getsockname()[1], 1, 0)
    answers = {"version": version, "get_episode_info": [1, [token]], "semore_renderer": "tiny"}
    hoard, connections = b"", 0
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        connection, _ = listener.accept()
        connections += 1
        if "leaks" in faults and connections == 3:
            hoard = bytes(bytearray(b"x") * 100_000_000)
        with connection:
            unpacker = msgpack.Unpacker()
            while "mute" not in faults and (received := connection.recv(4096)):
                unpacker.feed(received)
                for _, number, name, _ in unpacker:
                    connection.sendall(msgpack.packb([1, number, None, [[1, answers[name]]]]))
    del hoard


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])
