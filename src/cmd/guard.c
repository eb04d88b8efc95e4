/* SPDX-License-Identifier: BSD-2-Clause
 *
 * guard.c - `meercat guard`: looks at what stands between the kernel's TCP and the network, and
 * removes it, when a balancer has died and will not be started again.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "takeover/guard.h"

static int
complain(const struct errbuf *eb)
{
    fprintf(stderr, "meercat: %s\n", eb->text);
    return 1;
}

static int
show_one(const char *interface)
{
    struct errbuf eb;

    return guard_show(interface, stdout, &eb) == MC_OK ? 0 : complain(&eb);
}

static int
clear_one(const char *interface)
{
    struct errbuf eb;
    bool was = false;

    if (guard_clear(interface, &was, &eb) != MC_OK)
        return complain(&eb);
    printf("%s: %s\n", interface, was ? "removed" : "has no guard");
    return 0;
}

struct round {
    int (*fn)(const char *interface);
    unsigned n;
    int rv;
};

static void
go_on(void *arg, const char *interface)
{
    struct round *r = arg;

    r->n++;
    if (r->fn(interface) != 0)
        r->rv = 1;
}

static int
all(int (*fn)(const char *interface))
{
    struct round r = {.fn = fn};
    struct errbuf eb;

    if (guard_each(go_on, &r, &eb) != MC_OK)
        return complain(&eb);
    if (r.n == 0)
        printf("no interface has a guard\n");
    return r.rv;
}

int
cmd_guard(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*fn)(const char *interface);
    } words[] = {{"show", show_one}, {"clear", clear_one}};

    for (size_t i = 0; i < MC_COUNT(words) && argc >= 2 && argc <= 3; i++)
        if (strcmp(argv[1], words[i].name) == 0)
            return argc == 3 ? words[i].fn(argv[2]) : all(words[i].fn);
    return cmd_bad_usage("guard");
}
