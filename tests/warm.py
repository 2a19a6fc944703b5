"""Python commands without their ten seconds of imports: forked from a process that has made them.

`python tests/warm.py SOCKET OWNER` imports the library once and forks for every client, until the
process OWNER ends. The client, `CLIENT` below, hands over its arguments, folder, environment and
open files, forwards signals and ends with the same exit code; what runs is the same code as in a
fresh process. It also stands in for the interpreter that `multiprocessing` spawns.
"""

import atexit
import contextlib
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path

CLIENT = """
import contextlib, json, os, signal, socket, struct, sys
files = []
for number in map(int, os.listdir("/proc/self/fd")):
    with contextlib.suppress(OSError):
        os.fstat(number)
        files.append(number)
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.connect({path!r})
said = json.dumps([files, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [struct.pack("!I", len(said))], files)
server.sendall(said)
pid = struct.unpack("!I", server.recv(4))[0]
for one in (signal.SIGTERM, signal.SIGINT):
    signal.signal(one, lambda number, frame: os.kill(pid, number))
ended = server.recv(4)
sys.exit(struct.unpack("!i", ended)[0] if ended else 70)
"""


MOST_FILES, FREE = 64, 200  # so many may be handed over; numbers from here on are free


def serve(path: str, owner: int) -> None:
    """Import what commands import, then fork for every client that connects."""
    owned = os.pidfd_open(owner)
    gc.disable()
    import tiny_audio.cli
    import tiny_audio.evaluate.evaluator
    import tiny_audio.infer.transcriber
    import tiny_audio.scope.trace.path
    import tiny_audio.train.run  # noqa: F401

    gc.freeze()  # forks share these pages for as long as nothing goes through them
    gc.enable()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks below
    while owned not in select.select([listener, owned], [], [])[0]:
        client, _ = listener.accept()
        if os.fork():
            client.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        head, received, _, _ = socket.recv_fds(client, 4, MOST_FILES)
        size, said = struct.unpack("!I", head)[0], b""
        while len(said) < size:
            said += client.recv(size - len(said))
        pid = os.fork()
        if not pid:
            client.close()
            become(received, *json.loads(said))
        for number in received:
            os.close(number)
        client.sendall(struct.pack("!I", pid))
        if client in select.select([client, os.pidfd_open(pid)], [], [])[0]:
            os.kill(pid, signal.SIGKILL)  # the client was killed, so what it stands for is
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(OSError):
            client.sendall(struct.pack("!i", code if code >= 0 else 128 - code))
        os._exit(0)


def become(
    received: list[int], files: list[int], arguments: list[str], folder: str, environment: dict
) -> None:
    """Run `python ARGUMENTS…` in this process, with the client's open files, and end."""
    above = [fcntl.fcntl(number, fcntl.F_DUPFD, FREE) for number in received]
    for number in received:
        os.close(number)
    for number, file in zip(above, files, strict=True):
        os.dup2(number, file)
        os.close(number)
    while arguments[0] in ("-B", "-u", "-W"):
        arguments = arguments[2 if arguments[0] == "-W" else 1 :]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = 0
    try:
        sys.path.insert(0, "" if arguments[0].startswith("-") else str(Path(arguments[0]).parent))
        if arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        elif arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # as the interpreter does: whatever it is, it is shown
        traceback.print_exc()
        code = 1
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def python(folder: Path, owner: int) -> Path:
    """A `python` that starts at once, for shells and subprocesses: one for all who name this
    folder, for as long as the process `owner` lives. Returns the path of its script.
    """
    folder.mkdir(exist_ok=True)
    path, script = folder / "socket", folder / "python"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.exists():
            script.write_text(f"#!{sys.executable} -SEs\n" + CLIENT.format(path=str(path)))
            script.chmod(0o755)
            command = [sys.executable, __file__, str(path), str(owner)]
            subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, "the process that has the imports does not listen"
        time.sleep(0.1)
    return script


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
