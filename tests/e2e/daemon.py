"""One gfs-master or gfs-chunkserver process under test."""

import os
import re
import signal
import subprocess

from waiting import SLOW, wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
BIN = os.path.join(BUILD, "bin")
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 20
CANNOT_LISTEN = re.compile(r"event=start_failed.*=CONN\b")


def tail(path, lines=15):
    try:
        with open(path, errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except FileNotFoundError:
        return ""


def stacks(pid):
    """Where every thread of a process stands, if gdb is there to tell."""
    try:
        done = subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"],
                              capture_output=True, text=True, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith(("#", "Thread")))


class Daemon:
    """Its data, stdout and log are folder/NAME, folder/NAME.out and folder/NAME.log."""

    def __init__(self, program, name, folder, args, data=None):
        self.name = name
        self.program = program
        self.args = [str(arg) for arg in args]
        self.data = data or os.path.join(folder, name)
        self.out_path = os.path.join(folder, name + ".out")
        self.log_path = os.path.join(folder, name + ".log")
        self.proc = None
        self.addr = None  # kept over restarts
        self.may_be_dead = True
        self.env = dict(os.environ)

    def command(self, listen):
        return ([os.path.join(BIN, self.program), "--data", self.data, "--listen", listen] +
                self.args)

    def spawn(self):
        """Starts the process without waiting for it to serve."""
        assert not self.is_alive(), f"{self.name} runs already"
        with open(self.out_path, "wb") as out, open(self.log_path, "ab") as log:
            self.proc = subprocess.Popen(self.command(self.addr or "127.0.0.1:0"), env=self.env,
                                         stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        self.may_be_dead = False
        return self

    def start(self):
        """Starts it, on its old address if it had one, and waits until it serves."""
        self.spawn()

        def is_decided():
            if self.listening() or self.proc.poll() is None:
                return self.listening()
            # While it was down its port may have become the near end of another test's connection.
            if self.addr is None or not CANNOT_LISTEN.search(self.log(2)):
                return True
            self.spawn()
            return False
        wait_until(is_decided, f"{self.name} listening", START_TIMEOUT_S)
        if not self.listening():
            self.may_be_dead = True
            raise AssertionError(f"{self.name} ended with {self.proc.poll()}:\n{self.log()}")
        self.addr = self.listening()
        return self

    def listening(self):
        """The address of the line on stdout, once it is there."""
        with open(self.out_path) as out:
            line = out.readline()
        if line.startswith("listening on ") and line.endswith("\n"):
            return line[len("listening on "):].strip()
        return None

    @property
    def port(self):
        return int(self.addr.rsplit(":", 1)[1])

    @property
    def pid(self):
        return self.proc.pid

    def is_alive(self):
        return self.proc is not None and self.proc.poll() is None

    def signal(self, signo):
        self.proc.send_signal(signo)

    def kill(self):
        """SIGKILL: the usual way to stop."""
        self.may_be_dead = True
        if self.is_alive():
            self.proc.kill()
        if self.proc is not None:
            self.proc.wait()

    def terminate(self):
        """SIGTERM; returns the exit code."""
        self.may_be_dead = True
        if self.is_alive():
            self.proc.send_signal(signal.SIGCONT)
            self.proc.terminate()
        return self.wait()

    def wait(self):
        self.may_be_dead = True
        try:
            return self.proc.wait(STOP_TIMEOUT_S * SLOW)
        except subprocess.TimeoutExpired:
            where = stacks(self.pid)
            self.proc.kill()
            self.proc.wait()
            raise AssertionError(f"{self.name} did not end:\n{self.log()}\n{where}") from None

    def restart(self):
        self.kill()
        return self.start()

    def log(self, lines=15):
        return tail(self.log_path, lines)

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def check_end(self):
        """At the end of a test: it is alive, or was stopped by the test, and ends in order."""
        if self.proc is None:
            return None
        if self.proc.poll() is not None:
            if self.may_be_dead:
                return None
            return f"{self.name} died with {self.proc.returncode}:\n{self.log(40)}"
        code = self.terminate()
        if code != 0:
            return f"{self.name} ended with {code} on SIGTERM:\n{self.log(40)}"
        return None
