/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard_tc.c - hangs the guard's programs at an interface's tc hooks, finds and removes them.
 *
 * Ours are told from others' by handle and priority.  Their verdict for what is none of theirs lets
 * the filters behind them go on.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "takeover/guard_priv.h"

#define HANDLE   0x4d43 /* "MC" */
#define PRIORITY 77     /* early: what others accept is for us to judge, too */

static _Thread_local char said[256];

/* libbpf tells in several lines, the first of which names the thing. */
static int
hear(enum libbpf_print_level level, const char *fmt, va_list args)
{
    if (level != LIBBPF_WARN || said[0] != '\0')
        return 0;
    vsnprintf(said, sizeof(said), fmt, args);
    said[strcspn(said, "\n")] = '\0';
    return 0;
}

void
guard_hush(void)
{
    said[0] = '\0';
    libbpf_set_print(hear);
}

const char *
guard_hushed(void)
{
    static const char prefix[] = "libbpf: ";

    return strncmp(said, prefix, sizeof(prefix) - 1) == 0 ? said + sizeof(prefix) - 1 : said;
}

static unsigned
look(unsigned ifindex, enum bpf_tc_attach_point point)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point);
    LIBBPF_OPTS(bpf_tc_opts, opts, .handle = HANDLE, .priority = PRIORITY);

    guard_hush();
    return bpf_tc_query(&hook, &opts) == 0 ? opts.prog_id : 0;
}

struct guard_seen
guard_tc_look(unsigned ifindex)
{
    return (struct guard_seen){.in = look(ifindex, BPF_TC_INGRESS),
                               .out = look(ifindex, BPF_TC_EGRESS)};
}

static int
attach(unsigned ifindex, enum bpf_tc_attach_point point, int fd)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point);
    LIBBPF_OPTS(bpf_tc_opts, opts, .handle = HANDLE, .priority = PRIORITY, .prog_fd = fd,
                .flags = BPF_TC_F_REPLACE);

    return bpf_tc_attach(&hook, &opts);
}

static enum mc_err
refused(int rv, struct errbuf *eb)
{
    if (rv == -EPERM || rv == -EACCES)
        err_set(eb, "CAP_NET_ADMIN is missing, for filters on interfaces (tc)");
    else if (rv == -ENOENT || rv == -EOPNOTSUPP)
        err_set(eb, "the kernel has no clsact or no BPF filters (sch_ingress, cls_bpf)");
    else
        err_set(eb, "tc: %s%s%s", guard_hushed(), guard_hushed()[0] ? ": " : "", strerror(-rv));
    return MC_ENOTSUP;
}

/* Out first: from then on nothing of ours leaves that should not, and unknown flows are still the
 * kernel's. */
enum mc_err
guard_tc_attach(unsigned ifindex, int in_fd, int out_fd, struct errbuf *eb)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
                .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
    int rv;

    guard_hush();
    rv = bpf_tc_hook_create(&hook);
    if (rv == 0 || rv == -EEXIST)
        rv = attach(ifindex, BPF_TC_EGRESS, out_fd);
    if (rv == 0)
        rv = attach(ifindex, BPF_TC_INGRESS, in_fd);
    return rv == 0 ? MC_OK : refused(rv, eb);
}

static bool
detach(unsigned ifindex, enum bpf_tc_attach_point point)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point);
    LIBBPF_OPTS(bpf_tc_opts, opts, .handle = HANDLE, .priority = PRIORITY);

    guard_hush();
    return bpf_tc_detach(&hook, &opts) == 0;
}

/* In first, for the same reason.  The hook stays: others may use it, and empty it costs nothing. */
bool
guard_tc_detach(unsigned ifindex)
{
    bool in = detach(ifindex, BPF_TC_INGRESS), out = detach(ifindex, BPF_TC_EGRESS);

    return in || out;
}
