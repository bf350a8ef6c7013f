# SPDX-License-Identifier: Apache-2.0
"""New processes of Python that have TensorFlow from the start.

`command` is the command line of a process that runs a program as the
interpreter does, but is forked from one that imported TensorFlow and Keras. It
saves the four seconds of a core that these imports take; nothing of `rigl` is
imported before.

The process that is started relays: it hands its directory, environment and
standard streams to the server, passes signals on, and ends as the program did.
If it is killed, so is the program, a moment later but before the server starts
another. Where the environment differs in what the imports read, it becomes an
ordinary interpreter instead.

Not for a program whose parent, session or process group matters: those are the
server's. All programs have the hash seed of the server, so that a test of what
depends on it sets PYTHONHASHSEED.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import select
import selectors
import signal
import socket
import sys

# Starts of variables that the interpreter reads at its start, or TensorFlow,
# Keras, NumPy, and what they import if it is there (JAX, Matplotlib).
_READ_EARLY = (
  *("PYTHON", "LD_", "LANG", "LC_", "HOME", "XDG_", "TMP", "TEMP"),
  *("TF_", "KERAS_", "JAX_", "XLA_", "CUDA_", "ABSL_", "MPL"),
  *("OMP_", "OPENBLAS_", "NPY_"),
)
_NOT_READ_EARLY = ("PYTHONPATH", "TF_CONFIG")
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_BYTES = 1 << 20
_ANSWER = 8  # Bytes of an answer: the process, its status, or `_DIFFERS`.
_DIFFERS = "differs"
_PATIENCE_SECONDS = 30.0  # At the end, until the server is killed.

_server: tuple[str, int] | None = None


def command(*arguments: object) -> list[str]:
  """The command line that runs Python with some arguments.

  Args:
    *arguments: a script or `-m` and a module or `-c` and a program, and the
      arguments of that.
  """
  words = [str(argument) for argument in arguments]
  if not hasattr(os, "pidfd_open") or sys.platform != "linux":
    return [sys.executable, *words]
  return [sys.executable, "-I", "-S", __file__, _address(), *words]


def _address() -> str:
  """The address of the server of this process, which it starts."""
  global _server
  if _server is None or _server[1] != os.getpid():
    import atexit
    import subprocess
    import tempfile

    address = os.path.join(tempfile.mkdtemp(prefix="warm_python"), "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    # It ends when its standard input does, with this process. Then it kills
    # its programs and removes the socket.
    process = subprocess.Popen(
      [sys.executable, __file__, str(listener.fileno())],
      stdin=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      pass_fds=[listener.fileno()],
    )
    listener.close()
    owner = os.getpid()
    _server = (address, owner)

    @atexit.register
    def end() -> None:
      if os.getpid() != owner:
        return
      process.stdin.close()
      try:
        process.wait(_PATIENCE_SECONDS)
      except subprocess.TimeoutExpired:
        process.kill()

  return _server[0]


def _early(environment: dict[str, str]) -> dict[str, str]:
  """The variables that the imports have read."""
  return {
    name: value
    for name, value in environment.items()
    if name.startswith(_READ_EARLY) and name not in _NOT_READ_EARLY
  }


def _relay(address: str, words: list[str]) -> None:
  """Has the server run a program, and ends as it does."""
  if not words or (words[0].startswith("-") and words[0] not in ("-m", "-c")):
    os.execv(sys.executable, [sys.executable, *words])
  environment = dict(os.environ)
  # They wait until there is a program that they can go to.
  signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
  connection = socket.socket(socket.AF_UNIX)
  connection.connect(address)
  request = {"words": words, "directory": os.getcwd(), "env": environment}
  streams = array.array("i", [0, 1, 2]).tobytes()
  rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
  content = json.dumps(request).encode()
  connection.sendmsg([len(content).to_bytes(8, "big")], rights)
  connection.sendall(content)
  answer = _heard(connection)
  if answer == _DIFFERS:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    os.execv(sys.executable, [sys.executable, *words])
  child = int(answer)

  def pass_on(number: int, frame: object) -> None:
    with contextlib.suppress(ProcessLookupError):  # It has just ended.
      os.kill(child, number)

  # A signal that comes just before the wait ends it, too.
  woken, waking = socket.socketpair()
  waking.setblocking(False)
  signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
  for number in _PASSED_ON:
    signal.signal(number, pass_on)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
  while connection not in select.select([connection, woken], [], [])[0]:
    woken.recv(_BYTES)
  status = int(_heard(connection))
  if os.WIFSIGNALED(status):
    number = os.WTERMSIG(status)
    if number != signal.SIGKILL:
      signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
  os._exit(os.WEXITSTATUS(status))


def _heard(connection: socket.socket) -> str:
  """An answer of the server."""
  answer = connection.recv(_ANSWER, socket.MSG_WAITALL).decode().strip()
  if not answer:
    sys.exit("warm_python: the server has ended")
  return answer


def _serve(listener: socket.socket) -> list[str]:
  """Forks a process for each connection; returns in such a process.

  Returns:
    The command line of the program.
  """
  environment = dict(os.environ)
  # As the scripts do.
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  import keras  # noqa: F401
  import tensorflow  # noqa: F401

  gc.freeze()  # What was imported is never collected, nor copied for that.
  own = _early(environment)
  selector = selectors.DefaultSelector()
  selector.register(listener, selectors.EVENT_READ, "new")
  selector.register(0, selectors.EVENT_READ, "end")
  # The connection and the process of each program, by both files.
  running: dict[int, tuple[socket.socket, int, int]] = {}
  while True:
    # New ones last: a program whose relay was killed has ended before the next
    # one starts, and no file has the number of one that an event is about.
    for key, _ in sorted(selector.select(), key=lambda e: e[0].data == "new"):
      if key.data == "end":
        for _, child, _ in running.values():
          os.kill(child, signal.SIGKILL)
        address = listener.getsockname()
        with contextlib.suppress(OSError):
          os.unlink(address)
          os.rmdir(os.path.dirname(address))
        os._exit(0)
      if key.data == "new":
        connection, _ = listener.accept()
        request, streams = _receive(connection)
        if request is None:
          connection.close()
        elif _early(request["env"]) != own:
          _answer(connection, _DIFFERS)
          connection.close()
        else:
          child = os.fork()
          if not child:
            for other in (selector, listener, connection):
              other.close()
            for file, (other, _, handle) in running.items():
              other.close()
              if file == handle:
                os.close(handle)
            _become(request, streams)
            return request["words"]
          _answer(connection, child)
          handle = os.pidfd_open(child)
          selector.register(handle, selectors.EVENT_READ, "ended")
          selector.register(connection, selectors.EVENT_READ, "left")
          running[handle] = running[connection.fileno()] = (
            connection,
            child,
            handle,
          )
        for stream in streams:
          os.close(stream)
      elif key.fd in running:
        connection, child, handle = running.pop(key.fd)
        if key.data == "left":  # The relay was killed.
          os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        for file in (handle, connection.fileno()):
          selector.unregister(file)
          running.pop(file, None)
        if key.data == "ended":
          _answer(connection, status)
        connection.close()
        os.close(handle)


def _answer(connection: socket.socket, answer: object) -> None:
  # Who is killed meanwhile hears it no more.
  with contextlib.suppress(BrokenPipeError, ConnectionResetError):
    connection.sendall(str(answer).ljust(_ANSWER).encode())


def _receive(connection: socket.socket) -> tuple[dict | None, array.array]:
  """A request and the standard streams of who makes it.

  Returns:
    The request, or None if the relay was killed before it had sent all of it;
    and the standard streams that it sent.
  """
  streams = array.array("i")
  head, rights, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(3 * 4))
  for _, _, numbers in rights:
    streams.frombytes(numbers)
  left, content = int.from_bytes(head, "big"), b""
  while len(content) < left:
    part = connection.recv(min(_BYTES, left - len(content)))
    if not part:
      return None, streams
    content += part
  return json.loads(content) if content else None, streams


def _become(request: dict, streams: array.array) -> None:
  """Takes the directory, environment and streams of the program."""
  before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
  for number, stream in enumerate(streams):
    os.dup2(stream, number)
    os.close(stream)
  sys.modules["numpy"].random.seed()  # Not the numbers of all others.
  os.chdir(request["directory"])
  os.environ.clear()
  os.environ.update(request["env"])
  wanted = os.environ.get("PYTHONPATH", "").split(os.pathsep)
  rest = [path for path in sys.path[1:] if path not in before]
  sys.path[1:] = [*filter(None, wanted), *rest]


def _run(words: list[str]) -> None:
  """Runs a program as the interpreter does."""
  import runpy

  kind, rest = words[0], words[1:]
  if kind == "-m":
    sys.path[0], sys.argv = os.getcwd(), rest
    runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
  elif kind == "-c":
    sys.path[0], sys.argv = "", ["-c", *rest[1:]]
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    code = compile(rest[0], "<string>", "exec", dont_inherit=True)
    exec(code, main.__dict__)
  else:
    sys.path[0], sys.argv = os.path.dirname(os.path.abspath(kind)), words
    runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
  if sys.argv[1].isdecimal():
    _run(_serve(socket.socket(fileno=int(sys.argv[1]))))
  else:
    _relay(sys.argv[1], sys.argv[2:])
