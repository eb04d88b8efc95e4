/* SPDX-License-Identifier: BSD-2-Clause
 *
 * probe.c - what this machine can do, see probe.h.
 *
 * In an order in which each part finds what it needs: links before what is put on links.
 */
#include "lab/probe.h"

#include <sched.h>
#include <unistd.h>

#include "base/check.h"
#include "lab/delay.h"
#include "lab/group.h"
#include "lab/run.h"

typedef bool try_f(const char *argument, struct errbuf *why);

static bool
try_root(const char *argument, struct errbuf *why)
{
    if (geteuid() == 0)
        return true;
    err_set(why, "run as root");
    return false;
}

static bool
try_namespaces(const char *argument, struct errbuf *why)
{
    if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS) == 0)
        return true;
    err_sys(why, "unshare");
    return false;
}

static bool
try_command(const char *command, struct errbuf *why)
{
    const char *argv[] = {"/bin/sh", "-c", command, NULL};

    return run_all(NULL, NULL, argv, STR_NONE, why) == MC_OK;
}

static bool
try_delay(const char *argument, struct errbuf *why)
{
    struct delay d;

    if (delay_start(&d, "mc0", "mc1", MC_MS, why) != MC_OK)
        return false;
    delay_stop(&d);
    return true;
}

static bool
try_group(const char *name, struct errbuf *why)
{
    struct groups g;
    bool found = false;

    groups_find("", &g);
    for (unsigned i = 0; i < GROUP_N_CONTROLLERS; i++) {
        if (str_eq(str_of(group_controller_name(i)), str_of(name)) && g.tree[i].path != NULL) {
            err_set(why, "version %d, %s", g.tree[i].v2 ? 2 : 1, g.tree[i].path);
            found = true;
        }
    }
    groups_free(&g);
    if (!found)
        err_set(why, "no such control groups that can be written to");
    return found;
}

static const struct {
    const char *name, *used_for;
    bool needed;
    try_f *fn;
    const char *argument;
} tries[] = {
    {"root", "everything", true, try_root, NULL},
    {"namespaces", "hosts", true, try_namespaces, NULL},
    {"ip", "networks", true, try_command, "ip link set lo up"},
    {"veth", "links", true, try_command,
     "ip link add mc0 type veth peer name mc1 && ip link set mc0 up && ip link set mc1 up"},
    {"bridge", "networks", true, try_command, "ip link add mc2 type bridge"},
    {"nft bridge", "cut", false, try_command,
     "nft 'table bridge mc { chain c { type filter hook forward priority 0; iifname mc0 drop; }; "
     "}'"},
    {"nft numgen", "loss", false, try_command,
     "nft 'table bridge mcl { chain c { type filter hook forward priority 0; "
     "numgen random mod 1000000 < 1000 drop; }; }'"},
    {"packet sockets", "delay", false, try_delay, NULL},
    {"tc tbf", "bandwidth", false, try_command,
     "tc qdisc add dev mc0 root tbf rate 1mbit burst 64kb latency 50ms"},
    {"nexthop", "nexthop", false, try_command, "ip nexthop add id 1 dev mc0"},
    {"resilient groups", "nexthop ... type resilient", false, try_command,
     "ip nexthop add id 2 group 1 type resilient buckets 8 idle_timer 5"},
    {"bpf", "takeover", false, try_command, "test -d /sys/fs/bpf"},
    {"cpu group", "cpu, slow", false, try_group, "cpu"},
    {"memory group", "memory", false, try_group, "memory"},
    {"freezer group", "freeze --host", false, try_group, "freezer"},
};

unsigned
probe_all(struct probe out[PROBES_MAX])
{
    bool ok = true;

    static_assert(MC_COUNT(tries) <= PROBES_MAX, "room for all");
    for (unsigned i = 0; i < MC_COUNT(tries); i++) {
        struct probe *p = &out[i];

        *p = (struct probe){tries[i].name, tries[i].used_for, tries[i].needed, false, {""}};
        /* not on the machine's own network */
        if (ok)
            p->works = tries[i].fn(tries[i].argument, &p->why);
        else
            err_set(&p->why, "not tried");
        if (i < 2)
            ok &= p->works;
    }
    return MC_COUNT(tries);
}
