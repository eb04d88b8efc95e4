/* SPDX-License-Identifier: BSD-2-Clause
 *
 * harness.h - for the tests of this room: a loop, a fleet on it, and pools from a few words.
 */
#ifndef MC_FLEET_HARNESS_H
#define MC_FLEET_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "fleet/pool.h"
#include "io/harness.h"

static struct fleet *F;
static _Atomic unsigned opened; /* calls of on_open */

static void
count_open(void *arg)
{
    atomic_fetch_add(&opened, 1);
}

static int UNUSED
fleet_setup_dns(struct dns *dns)
{
    struct errbuf note;

    log_setup(LOG_LEVEL_ERROR, false);
    L = loop_new(&(struct loop_conf){.engine = LOOP_EPOLL}, &note);
    assert_non_null(L);
    opened = 0;
    F = fleet_new(2, L, dns, count_open, NULL);
    return 0;
}

static int UNUSED
fleet_setup(void **state)
{
    return fleet_setup_dns(NULL);
}

static int UNUSED
fleet_teardown(void **state)
{
    fleet_free(&F);
    loop_free(&L);
    return 0;
}

/* --- pools ---------------------------------------------------------------------------------------
 */

/* A pool of n servers s0, s1 ... at 127.0.0.1:9001, 9002 ...; the test changes what it wants before
 * adopt(). */
static struct pool_conf UNUSED
pool_of(unsigned n)
{
    struct pool_conf c = {.name = mc_strdup("app"), .n_servers = n};

    c.servers = mc_alloc((n + 1) * sizeof(*c.servers));
    for (unsigned i = 0; i < n; i++)
        c.servers[i] = (struct server_conf){.name = mc_printf("s%u", i),
                                            .address = mc_printf("127.0.0.1:%u", 9001 + i),
                                            .weight = 1};
    return c;
}

static void UNUSED
set_address(struct pool_conf *c, unsigned i, const char *address)
{
    free(c->servers[i].address);
    c->servers[i].address = mc_strdup(address);
}

/* Builds a pool and puts it in force, alone. */
static UNUSED struct pool *
adopt(struct pool_conf *c)
{
    struct errbuf err = {{0}};
    struct pool **pools, *p;

    if (fleet_build(F, c, 1, &pools, &err) != MC_OK)
        fail_msg("%s", err.text);
    p = pools[0];
    fleet_adopt(F, pools, 1);
    free(pools);
    return p;
}

/* --- what can be seen ---------------------------------------------------------------------------
 */

static bool UNUSED
is_open(const struct pool *p, unsigned i)
{
    return place_is_open(p->view.load[i]);
}

static enum health_state UNUSED
state_of(const struct pool *p, unsigned i)
{
    struct health h;

    server_health_copy(p->servers[i], &h);
    return h.state;
}

static UNUSED const char *
reason_of(const struct pool *p, unsigned i)
{
    static struct health h;

    server_health_copy(p->servers[i], &h);
    return h.reason;
}

/* As many failed requests as eject a server. */
static void UNUSED
fail_requests(const struct pool *p, unsigned i, unsigned n)
{
    while (n-- > 0)
        server_note(p->servers[i], SERVER_CONNECT_ERROR, loop_now(L));
}

#endif
