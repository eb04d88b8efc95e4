# SPDX-License-Identifier: BSD-2-Clause
"""What bench/run and bench/placement stand on: processes that end with us, a network namespace, what
the kernel says of CPU time."""
import contextlib
import ctypes
import fcntl
import http.client
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import sys
import time

FDS_NEEDED = 8192        # 1,000 clients, and as many connections from each proxy to the origin
TICK = os.sysconf("SC_CLK_TCK")


class Trouble(Exception):
    """Something that makes a measurement impossible, said in one line."""


# ---- processes -----------------------------------------------------------------------------------

class Children:
    """Everything that was started here; all of it ends when the block is left."""

    def __init__(self, directory):
        self.directory, self.running, self.origins = directory, [], []
        self.libc = ctypes.CDLL(None, use_errno=True)

    def start(self, name, argv, core=None, groups=(), **pipes):
        """core: None for all of them.  groups: directories of control groups to be in."""
        def prepare():
            self.libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: also when we are killed
            if core is not None:
                os.sched_setaffinity(0, {core})
            for group in groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        with open(self.directory / f"{name}.log", "wb") as log:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": log, **pipes}
            process = subprocess.Popen(argv, stderr=log, preexec_fn=prepare, cwd=self.directory,
                                       start_new_session=True, **pipes)
        process.name = name
        self.running.append(process)
        return process

    def log_of(self, process):
        lines = (self.directory / f"{process.name}.log").read_text(errors="replace").splitlines()
        return "\n".join("    " + line for line in lines[-5:])

    def wait_for_answer(self, process, port, path="/b/100", n_bytes=100):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
                c.request("GET", path, headers={"Connection": "close"})
                if len(c.getresponse().read()) == n_bytes:
                    return
            time.sleep(0.05)
        raise Trouble(f"{process.name} does not answer on port {port}:\n{self.log_of(process)}")

    def stop(self, process):
        """SIGTERM, two seconds, then SIGKILL to the session that the process is the leader of."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.running.remove(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)  # once is enough: clean up whole
        for process in reversed(self.running[:]):
            self.stop(process)


def descendants(pid):
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = pathlib.Path("/proc", entry, "stat").read_text()
                parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for p in found:
        found += [child for child, parent in parents.items() if parent == p]
    return found


def cpu_ns_by_thread(pids):
    ns = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):
                    stat = pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text()
                    ns[task] = int(stat.split()[0])
    return ns


def cpu_ns_in_ticks(pids):
    """Coarser (10 ms), but it knows the threads that have ended."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(stat[11]) + int(stat[12])
    return ticks * 1_000_000_000 // TICK


def busy_ns_of_core(core, nice=True):
    """nice: also what gives way to others."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            t = [int(word) for word in ticks[:8]]
            return (sum(t) - t[3] - t[4] - (0 if nice else t[1])) * 1_000_000_000 // TICK  # less idle and iowait
    return 0


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# ---- the place: namespace, descriptors, cores ----------------------------------------------------

def enter_namespace():
    """Starts this program again in a network namespace of its own; returns whether it is in one."""
    if os.environ.get("BENCH_IN_NETNS") == "1":
        return True
    if os.environ.get("BENCH_NETNS") == "no":
        return False
    for flags in (["-n"], ["-U", "-c", "--keep-caps", "-n"]):
        with contextlib.suppress(OSError):
            if subprocess.run(["unshare", *flags, "true"], stderr=subprocess.DEVNULL,
                              check=False).returncode == 0:
                os.environ["BENCH_IN_NETNS"] = "1"
                os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])
    print("warning: no network namespace can be made here (needs root or user namespaces): "
          "measuring on the host's loopback, with its settings", file=sys.stderr)
    return False


def set_up_namespace():
    with socket.socket() as s:  # ip link set lo up, without needing iproute2
        request = struct.pack("16sh14x", b"lo", 1)  # IFF_UP
        fcntl.ioctl(s, 0x8914, request)  # SIOCSIFFLAGS
    for key, value in (("tcp_congestion_control", "reno"),   # bbr paces, which distorts loopback
                       ("ip_local_port_range", "10000 65535"),
                       ("tcp_tw_reuse", "1")):               # new-conn leaves thousands behind
        try:
            pathlib.Path("/proc/sys/net/ipv4", key).write_text(value)
        except OSError as e:
            print(f"warning: net.ipv4.{key}: {e.strerror}", file=sys.stderr)


def check_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FDS_NEEDED:
        raise Trouble(f"the limit of descriptors is {hard}, {FDS_NEEDED} are needed: raise it "
                      "(ulimit -Hn, LimitNOFILE= of a service)")
    if soft == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port_base(n):
    """A port followed by enough free ones."""
    for base in range(8000, 9900, 50):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + n):
                    s = stack.enter_context(socket.socket())
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("127.0.0.1", port))
                return base
            except OSError:
                continue
    raise Trouble("no free ports between 8000 and 9900")
