"""Starts Ray on this machine or connects to a cluster, with time limits and helpful errors."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from caloforge.errors import CaloforgeError, ConfigError, MissingDependencyError, SimulationError, TuningError
from caloforge.ray_watchdog import watchdog

# Ray's minimum is 75 MiB; no large objects are stored
OBJECT_STORE = 80 * 2**20
# time limits for an answer of the address and of Ray, s
ANSWER, START = 10.0, 90.0
CLIENT_PORT = 10001
# environment variables of Ray: with clusters disabled, as on macOS, it listens on the loopback interface
LOOPBACK, TOKEN = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_TOKEN"
# in Ray's error message if the machine is too busy to start it in time; a second attempt may succeed
TOO_BUSY = "timed out"


@dataclass(frozen=True)
class Caller:
    """What connects to Ray, for error messages.

    Attributes:
        what: With its article: "a search".
        option: Option with the address.
        here: What is done without an address.
        error: Class of the errors.
        packages: What it needs besides Ray.
    """

    what: str
    option: str
    here: str
    error: type[CaloforgeError]
    packages: tuple[str, ...] = ()


SEARCH = Caller("a search", "--address", "the search runs here", TuningError, ("optuna", "plotly", "cmaes"))
CAMPAIGN = Caller("a campaign on a cluster", "--cluster", "the campaign runs here", SimulationError)


def require_ray(caller: Caller) -> None:
    """Check that the packages for Ray are installed.

    Raises:
        MissingDependencyError: A package is missing; with the command to install it.
    """
    import importlib.util

    missing = [name for name in ("ray", *caller.packages) if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"{caller.what} needs {', '.join(missing)}, not installed here; run: pip install "
            "'caloforge[tune]'"
        )


@contextlib.contextmanager
def connected(address: str | None, caller: Caller = SEARCH) -> Iterator[None]:
    """Start Ray on this machine, or connect to it at an address; shut down or disconnect on exit.

    A local Ray listens on the loopback interface only and requires a random token, never written to disk.

    Raises:
        CaloforgeError: Of the class of the caller: it does not start or answer in time.
    """
    require_ray(caller)
    # read when Ray is imported: workers without GPUs keep the devices visible
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    # before Ray sets up its own logging
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
    with contextlib.ExitStack() as stack:
        if address is None:
            stack.enter_context(_private_settings())
            # the watchdog ends after Ray has been shut down
            last = stack.enter_context(contextlib.ExitStack())
            stack.callback(ray.shutdown)
            _start(quiet, caller)
            last.enter_context(watchdog())
        else:
            _probe(address, caller)
            stack.callback(ray.shutdown)
            with _explain_errors(f"{address}: Ray cannot be joined there", caller, joining=True):
                _with_timeout(START, address, caller, lambda: ray.init(address=address, **quiet))
        yield


def _start(quiet: Mapping[str, Any], caller: Caller) -> None:
    """Start Ray on this machine; tries a second time if the machine was too busy."""
    import ray

    cores = len(os.sched_getaffinity(0))
    # without "local" Ray joins the one of another process, or RAY_ADDRESS
    here = {
        "address": "local",
        "num_cpus": cores,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
    }
    with _explain_errors("Ray does not start here", caller):
        try:
            ray.init(**here, **quiet)
        except Exception as error:
            if TOO_BUSY not in str(error):
                raise
            ray.shutdown()
            ray.init(**here, **quiet)


@contextlib.contextmanager
def _private_settings() -> Iterator[None]:
    """Environment for a Ray that other machines and other users cannot reach.

    Ray requires tokens by default, unless RAY_AUTH_MODE disables them.
    """
    from ray._private import ray_constants
    from ray._private.authentication.authentication_token_setup import AuthenticationTokenLoader

    own = {LOOPBACK: "0"}
    if not any(name in os.environ for name in (TOKEN, f"{TOKEN}_PATH")):
        own[TOKEN] = secrets.token_hex(32)
    before = {name: os.environ.get(name) for name in (*own, "RAY_AUTH_MODE")}
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    try:
        os.environ.update(own)
        # this process may have imported Ray with another token before
        ray_constants.ENABLE_RAY_CLUSTER = False
        AuthenticationTokenLoader.instance().reset_cache()
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        AuthenticationTokenLoader.instance().reset_cache()


def _probe(address: str, caller: Caller) -> None:
    """Check that an address accepts connections."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        host, port = port, str(CLIENT_PORT)
    if not (port.isascii() and port.isdecimal() and len(port) < 6) or not 0 < int(port) < 65536:
        raise ConfigError(f"{caller.option} {address}: expected ray://HOST:PORT, HOST:PORT or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except OSError as error:
        raise caller.error(
            f"{caller.option} {address}: no answer from {host} port {port} ({error.strerror or error}); is "
            f"the head node of the cluster up and its port open? Without {caller.option} {caller.here}"
        ) from error


def _with_timeout(seconds: float, address: str, caller: Caller, action: Callable[[], object]) -> None:
    """Run an action in a thread, with a time limit."""
    problem: list[BaseException] = []

    def attempt() -> None:
        try:
            action()
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise caller.error(
            f"{caller.option} {address}: something listens there, but Ray does not answer within "
            f"{seconds:.0f} s; does the cluster have the same version of Ray and Python?"
        )
    if problem:
        raise problem[0]


@contextlib.contextmanager
def _explain_errors(what: str, caller: Caller, *, joining: bool = False) -> Iterator[None]:
    """Turn errors of Ray into one of the caller's class with a hint."""
    try:
        yield
    except (ConfigError, caller.error):
        raise
    except Exception as error:
        reason = first_line(error)
        text = str(error).lower()
        if "shm" in text or "object store" in text:
            hint = "the shared memory of this machine (/dev/shm) is too small; in a container: --shm-size=1g"
        elif "token" in text or (joining and isinstance(error, ConnectionError)):
            hint = (
                "if the cluster asks for a token, export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN=..., or keep "
                "the token in ~/.ray/auth_token; its versions of Ray and Python must be those of this machine"
            )
        elif "port" in text or "address already in use" in text or isinstance(error, OSError):
            hint = (
                "a port or the number of open files may be at its limit (ulimit -n), or Ray's folder of "
                "temporary files (RAY_TMPDIR) not writable"
            )
        elif TOO_BUSY in text:
            hint = "this machine may be too busy; try again when it has less to do"
        else:
            hint = "look into session_latest/logs in Ray's folder of temporary files (RAY_TMPDIR)"
        raise caller.error(f"{what}: {reason}; {hint}") from error


def first_line(error: BaseException) -> str:
    """First line of an error message; Ray appends tracebacks."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
