# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of requests while balancers are lost: three balancers or four in a laboratory, a steady client,
servers that keep a ledger, and one thing that goes wrong.

    r = play("kill", way="bgp", takeover="requests", seed=7)
    r.failed, r.repeated, r.longest_ms

A way is how traffic finds the balancers:

    static     the router has a group of next hops, and we take out the one that is gone, as BFD would
    bgp        BIRD with BFD 50 ms x 3
    bgp-slow   BIRD without BFD, and a hold time of 3 s
    vip        the cluster gives the address to one of its members

takeover: None, "requests" or "responses".
"""

import collections
import dataclasses
import json
import os
import random
import shutil
import struct
import tempfile
import threading
import time

from .meercat import ROOT
from .meercat_lab import MeercatLab
from .starved import Watch, beater
from .tools import tools
from .wait import wait_until

VIP = "192.0.2.10"
SERVERS = ["s1", "s2", "s3", "s4"]
TOLD_MS = 300           # a longer wait is told with its connection
DETECTION_S = 0.15      # what BFD takes with 50 ms x 3
GET = 1 << 63           # in a ledger
PART_OF_POSTS = 0.1
SIZES = "100,1000,5000,20000"

# --- the laboratory -------------------------------------------------------------------------------

SITE = """
network "outside" { }
network "front"   { }
network "cluster" { }
network "back"    { }

prepare = "{meercat} keygen {lab}/cluster.key"

role "client" {
  route = "default via {router.outside}"
}
role "server" {
  start "ledger" { command = "exec @TOOLS@/ledger -a {host.back} -p 8080 -n {host} -L @LISTS@/{host}"  port = 8080 }
}
role "balancer" {
  route = "default via {router.front}"
  @ADDRESS@
  file "meercat.conf" { from = "balancer.conf" }
  start "meercat" { command = "exec {meercat} serve -c {dir}/meercat.conf @ENGINE@"  port = 80 }
  @BIRD@
}
role "router" {
  sysctl = {"net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1"}
  @ROUTER@
}

host "client" { role = "client"  link "outside" { address = "10.0.0.1/24" } }
host "router" {
  role = "router"
  link "outside" { address = "10.0.0.254/24" }
  link "front"   { address = "10.1.0.254/24" }
  @ROUTES@
}
"""

HOST = """
host "lb@N@" {
  role = "balancer"
  link "front"   { address = "10.1.0.@N@/24" }
  link "cluster" { address = "10.2.0.@N@/24" }
  link "back"    { address = "10.3.0.@N@/24" }
}
"""

BALANCER = """
node = "{host}"
workers = @WORKERS@
drain-timeout = "5s"
leave-grace = "500ms"

cluster {
  bind = "{host.cluster}:7707"
  join = {@JOIN@}
  key-file = "{lab}/cluster.key"
}
@TAKEOVER@
@VIP@
listen "web" {
  bind = {"*:80"}
  protocol = http1
  @PROTECT@
}
pool "app" {
  check { path = "/healthz"  interval = "500ms" }
  server "s1" { address = "{s1.back}:8080" }
  server "s2" { address = "{s2.back}:8080" }
  server "s3" { address = "{s3.back}:8080" }
  server "s4" { address = "{s4.back}:8080" }
}
route "rest" { pool = "app" }
"""

TAKEOVER = 'takeover { interface = {"front"}  witness = {"{router.front}"}  replicas = @REPLICAS@ }'
GROUP = "type resilient buckets 128 idle_timer 1"

BIRD = """
  prepare = "sed -e 's/= 10[.]0[.]0[.]1;/= {host.front};/; s/10[.]0[.]0[.]254/{router.front}/; %s' @ROOT@/packaging/bird/balancer.conf >{dir}/bird.conf"
  start "bird" {
    command = "mkdir -p /run/bird && exec bird -f -c {dir}/bird.conf"
    ready = "birdc show protocols router1 | grep -q Established"
    within = "30s"
  }
"""
BIRD_ROUTER = """
  prepare = "cat @ROOT@/packaging/bird/router.conf @LISTS@/more.conf | sed -e 's/10[.]0[.]0[.]\\\\([0-9]*\\\\)/10.1.0.\\\\1/; %s' >{dir}/bird.conf"
  start "bird" { command = "mkdir -p /run/bird && exec bird -f -c {dir}/bird.conf"  ready = "birdc show status" }
"""
# Those that are not in the file that users are given.
BIRD_MORE = "protocol bgp @LB@ from balancer { neighbor 10.0.0.@N@ as BALANCERS; }\n"
BIRD_SED = "s/log syslog/log stderr/; s/retry time 1;/& connect delay time 1;/"


@dataclasses.dataclass(frozen=True)
class Way:
    address: str = ""       # of a balancer
    vip: str = ""           # in its configuration
    bird: str = ""          # more for sed; None: none
    routes: str = ""        # of the router
    by_hand: bool = False   # we tell the router who is there
    one_owner: bool = False # only one balancer has the address


WAYS = {
    "static": Way(address=f'address = "{VIP}/32"', bird=None, by_hand=True, routes=f"""
  nexthop = {{ @HOPS@, "id 10 group @ALL@ {GROUP}" }}
  route = "{VIP}/32 nhid 10\""""),
    "bgp": Way(vip=f'vip "web" {{ address = "{VIP}" }}'),
    "bgp-slow": Way(vip=f'vip "web" {{ address = "{VIP}" }}', bird="s/bfd on;//"),
    "vip": Way(vip=f'vip "web" {{ address = "{VIP}"  interface = "front"  mode = "cluster"  return-after = "2s" }}', bird=None,
               one_owner=True, routes=f'route = "{VIP}/32 dev front"'),
}


def write_topology(directory, lbs, way, takeover, engine, workers, replicas):
    w = WAYS[way]
    numbers = range(1, len(lbs) + 1)
    words = {
        "TOOLS": tools(), "LISTS": directory, "ADDRESS": w.address, "VIP": w.vip, "ROUTES": w.routes, "ROOT": ROOT,
        "BIRD": "" if w.bird is None else BIRD % "; ".join(filter(None, (BIRD_SED, w.bird))),
        "ROUTER": "" if w.bird is None else BIRD_ROUTER % "; ".join(filter(None, (BIRD_SED, w.bird))),
        "WORKERS": str(workers), "ENGINE": f"--engine {engine}" if engine else "", "TAKEOVER": TAKEOVER if takeover else "",
        "PROTECT": f"takeover {{ replicate = {takeover} }}" if takeover else "", "REPLICAS": str(replicas),
        "JOIN": ", ".join(f'"{{{lb}.cluster}}:7707"' for lb in lbs), "ALL": "/".join(map(str, numbers)),
        "HOPS": ", ".join(f'"id {i} via {{lb{i}.front}} dev front"' for i in numbers),
    }
    site = SITE + "".join(HOST.replace("@N@", str(i)) for i in numbers)
    more = "".join(BIRD_MORE.replace("@LB@", lb).replace("@N@", lb[2:]) for lb in lbs[3:])
    site += "".join(f'host "{s}" {{ role = "server"  link "back" {{ address = "10.3.0.{11 + i}/24" }} }}\n'
                    for i, s in enumerate(SERVERS))
    for name, text in (("site.conf", site), ("balancer.conf", BALANCER), ("more.conf", more)):
        for _ in range(2):
            for key, value in words.items():
                text = text.replace(f"@{key}@", value)
        with open(os.path.join(directory, name), "w") as f:
            f.write(text)
    return os.path.join(directory, "site.conf")


class Stage:
    """A laboratory that serves."""

    def __init__(self, way, takeover=None, engine=None, workers=2, balancers=3, replicas=1):
        self.way, self.takeover = WAYS[way], takeover
        self.lbs = [f"lb{i + 1}" for i in range(balancers)]
        self.dir = tempfile.mkdtemp(prefix="chaos-", dir=os.environ.get("TMPDIR", "/tmp"))
        site = write_topology(self.dir, self.lbs, way, takeover, engine, workers, replicas)
        self.lab = MeercatLab(site, dir=os.path.join(self.dir, "lab"))
        self.out, self.frozen, self.notes, self.began = set(), set(), [], None
        try:
            self.lab.up()
            self.settle()
        except BaseException:
            self.close()
            raise

    def close(self):
        try:
            self.lab.down()
        finally:
            if not os.environ.get("CHAOS_KEEP"):
                shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- what there is ---------------------------------------------------------------------
    def status(self, lb):
        p = self.lab.meercat(lb, "status", "--json", check=False)
        return json.loads(p.stdout) if p.stdout.strip() else {}

    def is_ready(self, lb):
        p = self.lab.meercat(lb, "members", check=False)
        others = len(self.lbs) - 1 - sum(1 for x in self.out if x != lb)
        return p.stdout.count(" alive") >= others + 1 and self.lab.exec(
            "client", "curl", "-sf", "-m", "1", f"http://{VIP}/", check=False).returncode == 0

    def settle(self):
        for lb in self.lbs:
            if lb not in self.out:
                wait_until(lambda: self.is_ready(lb), 30, f"{lb} is ready", interval=0.1)

    def pids(self):
        """{balancer: its process}, where takeover is on."""
        return {lb: p for lb in self.lbs for p in self.lab.program(lb, "meercat")["pids"] if beater(p)}

    def slept(self, but=()):
        """{balancer: how often it did not run for two beats and more}, without those of which a note tells."""
        there = [lb for lb in self.lbs if not any(lb in note for note in but)]
        return {lb: t["beats"]["slept"] for lb in there if (t := self.status(lb).get("takeover"))}

    def log(self, lb):
        path = self.lab.program(lb, "meercat")["log"]
        with open(path, errors="replace") as f:
            return f.read()

    def victim(self, rng):
        """One that has traffic: any of those that are there, or the one that has the address."""
        there = self.there()
        if self.way.one_owner:
            there = [lb for lb in there if VIP in self.lab.exec(lb, "ip", "addr", "show", "dev", "front").stdout]
        return rng.choice(there)

    def there(self):
        return [lb for lb in self.lbs if lb not in self.out]

    # --- what is done to it ----------------------------------------------------------------
    def note(self, text):
        self.notes.append(f"{time.monotonic() - (self.began or time.monotonic()):.3f} s: {text}")

    def _tell_router(self):
        if self.way.by_hand:
            there = "/".join(lb[2:] for lb in self.there())
            self.lab.exec("router", "ip", "nexthop", "replace", "id", "10", "group", there, *GROUP.split())
            self.note(f"the router sends to {there}")

    def lose(self, *lbs):
        """The router finds out, where that is our business."""
        self.out.update(lbs)
        if self.way.by_hand:
            time.sleep(DETECTION_S)
            self._tell_router()

    def only(self, lb):
        """The router sends everything to this one; the others stay."""
        self.out = set(self.lbs) - {lb}
        self._tell_router()

    def regain(self, lb):
        self.out.discard(lb)
        self._tell_router()

    def kill(self, lb):
        self.note(f"kill -9 {lb}")
        self.lab.kill(lb, "meercat")
        self.lose(lb)

    def kill_at_once(self, *lbs):
        """Within some milliseconds."""
        self.note(f"kill -9 {' and '.join(lbs)}")
        kills = [threading.Thread(target=self.lab.kill, args=(lb, "meercat")) for lb in lbs]
        for k in kills:
            k.start()
        for k in kills:
            k.join()
        self.lose(*lbs)

    def cut(self, lb):
        self.note(f"cut {lb}")
        self.lab.cut(lb)
        self.lose(lb)

    def freeze(self, lb):
        self.note(f"freeze {lb}")
        self.lab.freeze(lb, "meercat")
        self.frozen.add(lb)
        self.lose(lb)

    def nap(self, lb, seconds):
        """It is taken for dead, and goes on."""
        self.note(f"{lb} sleeps for {seconds * 1000:.0f} ms")
        self.lab.freeze(lb, "meercat")
        time.sleep(seconds)
        self.lab.thaw(lb, "meercat")

    def partition(self):
        self.note("cut cluster")
        self.lab.cut("cluster")

    def restart(self, lb):
        self.note(f"start {lb}")
        self.lab.start(lb, "meercat")
        wait_until(lambda: self.lab.meercat(lb, "status", "--quiet", check=False).returncode == 0, 20, f"{lb} serves")
        self.regain(lb)

    def upgrade(self, lb):
        self.note(f"upgrade {lb}")
        self.lab.meercat(lb, "upgrade")
        self.note(f"{lb} is upgraded")

    def leave(self, lb):
        self.note(f"{lb} leaves")
        if self.way.by_hand:
            self.out.add(lb)
            self._tell_router()
        self.lab.stop(lb, "meercat")
        self.out.add(lb)


# --- what goes wrong ------------------------------------------------------------------------------

def _kill(stage, rng):
    stage.kill(stage.victim(rng))


def _cut(stage, rng):
    stage.cut(stage.victim(rng))


def _freeze(stage, rng):
    stage.freeze(stage.victim(rng))


def _nap(stage, rng):
    """Who wakes must not go on with what others have taken over."""
    for _ in range(5):
        stage.nap(stage.victim(rng), rng.uniform(0.06, 0.5))
        time.sleep(1)


def _second(stage, rng):
    for _ in range(2):
        stage.cut(stage.victim(rng))
        time.sleep(1.5)


def _both(stage, rng):
    """A balancer and another, which may hold its connections."""
    lb = stage.victim(rng)
    stage.kill_at_once(lb, rng.choice([x for x in stage.there() if x != lb]))


def _partition(stage, rng):
    stage.partition()


def _return(stage, rng):
    lb = stage.victim(rng)
    stage.kill(lb)
    time.sleep(1)
    stage.restart(lb)


def _upgrade(stage, rng):
    for lb in rng.sample(stage.lbs, len(stage.lbs)):
        stage.upgrade(lb)


def _upgrades(stage, rng):
    lb = stage.victim(rng)
    for _ in range(10):
        stage.upgrade(lb)


def _upgrade_kill(stage, rng):
    lb = stage.victim(rng)
    stage.upgrade(lb)
    time.sleep(1 + rng.random())
    stage.kill(lb)


def _leave(stage, rng):
    stage.leave(stage.victim(rng))


def _roll(stage, rng):
    """All leave and start again, one after the other."""
    for lb in rng.sample(stage.lbs, len(stage.lbs)):
        stage.leave(lb)
        stage.restart(lb)
        stage.settle()


def _nothing(stage, rng):
    pass


EVENTS = {"nothing": _nothing, "kill": _kill, "cut": _cut, "freeze": _freeze, "nap": _nap, "second": _second,
          "both": _both, "partition": _partition, "return": _return, "upgrade": _upgrade, "upgrades": _upgrades,
          "upgrade-kill": _upgrade_kill, "leave": _leave, "roll": _roll}


# --- a play ---------------------------------------------------------------------------------------

@dataclasses.dataclass
class Result:
    said: dict          # by steady.c
    told: str           # its failures, one a line
    notes: list         # what was done when
    logs: dict          # of the balancers
    views: dict         # of those that live at the end: what they say of takeover
    repeated: list      # ids of POSTs that were delivered more than once
    unheard: list       # ids of POSTs that were answered, but not delivered
    gets_repeated: int
    excuse: str         # of the machine, when it had no time for a balancer to which nothing was done; else None

    requests = property(lambda self: self.said["requests"])
    failed = property(lambda self: self.said["failed"])
    longest_ms = property(lambda self: self.said["longest_ms"])
    resets = property(lambda self: sum(self.said[k] for k in ("reset", "cut", "lost", "refused")))
    # A POST that was sent and may not be repeated is answered with 502: the client knows.
    told_502 = property(lambda self: self.said.get("status_502", 0))

    def text(self):
        views = [f"{lb} counts " + ", ".join(f"{n} {k}" for k, n in v["counters"].items() if n)
                 for lb, v in self.views.items() if v]
        return "\n".join([*self.notes, self.told.strip(), *views, str(self.said)])


def read_ids(path):
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        raw = f.read()
    return [i for i, in struct.iter_unpack("<Q", raw[:len(raw) // 8 * 8])]


def ledgers(directory):
    """{id: how often} of POSTs, and how many deliveries of GETs were not the first."""
    posts, gets = collections.Counter(), collections.Counter()
    for s in SERVERS:
        for i in read_ids(os.path.join(directory, s)):
            (gets if i & GET else posts)[i & ~GET] += 1
    return posts, sum(n - 1 for n in gets.values())


def traffic(stage, connections, per_s, seconds, fresh=False, sizes=SIZES, delay_ms=0, posts=PART_OF_POSTS):
    args = ["-a", VIP, "-p", 80, "-c", connections, "-r", per_s, "-t", seconds, "-s", sizes, "-P", posts,
            "-w", TOLD_MS, "-L", os.path.join(stage.dir, "answered"), *(["-f"] if fresh else []),
            *(["-d", delay_ms] if delay_ms else [])]
    return stage.lab.popen("client", os.path.join(tools(), "steady"), *map(str, args), stdout=-1, stderr=-1, text=True)


def play(event, way="static", takeover=None, seed=0, connections=600, per_s=4000, seconds=10, engine=None, balancers=3,
         replicas=1, **kw):
    """One thing goes wrong a tenth of the time after the begin, or a little later."""
    rng = random.Random(f"{seed} {event}")
    with Stage(way, takeover, engine, balancers=balancers, replicas=replicas) as stage:
        watch = Watch(stage.pids(), stage.slept()) if takeover else None
        client = traffic(stage, connections, per_s, seconds, **kw)
        stage.began = time.monotonic()
        faults = []

        def act():
            time.sleep(seconds * (0.1 + 0.1 * rng.random()))
            try:
                EVENTS[event](stage, rng)
            except Exception as e:  # pylint: disable=broad-except
                faults.append(e)
        t = threading.Thread(target=act)
        t.start()
        out, told = client.communicate(timeout=seconds * 4 + 60)
        t.join()
        logs = {lb: stage.log(lb) for lb in stage.lbs}
        views = {lb: stage.status(lb).get("takeover") for lb in stage.lbs if lb not in stage.frozen}
        excuse = None
        if watch:
            watch.stop()
            excuse = watch.excuse(stage.slept(but=stage.notes))
        posts, gets_repeated = ledgers(stage.dir)
        answered = read_ids(os.path.join(stage.dir, "answered"))
        if faults:
            raise faults[0]
        assert out.strip(), f"the client said nothing: {told}"
        return Result(json.loads(out), told, stage.notes, logs, views, [i for i, n in posts.items() if n > 1],
                      [i for i in answered if i not in posts], gets_repeated, excuse)


__all__ = ["EVENTS", "WAYS", "Result", "Stage", "play", "traffic"]
