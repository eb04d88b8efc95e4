/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_swim.c - any bytes as messages and whole states that reach a member which knows some others.
 *
 * The input is a run of: u8, whose upper seven bits count units of 4 bytes and whose lowest bit
 * says a whole state (1) or a datagram (0); then so many bytes.  Time goes on by a timeout after
 * each.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cluster/swim.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
send_nothing(void *arg, const struct addr *to, const void *bytes, size_t n)
{
    MC_ASSERT(n > 0 && n <= SWIM_DATAGRAM_MAX);
    MC_ASSERT(to->len > 0);
}

static void
sync_nothing(void *arg, const struct addr *to)
{
    MC_ASSERT(to->len > 0);
}

static void
see(void *arg, const struct swim_member *m, enum swim_state was)
{
    MC_ASSERT(swim_name_ok(str_of(m->name)));
    MC_ASSERT(m->id == swim_name_id(str_of(m->name)));
    MC_ASSERT(m->meta_n <= SWIM_META_MAX);
    MC_ASSERT(m->addr.len > 0 && addr_port(&m->addr) > 0);
}

static void
check(const struct swim *s)
{
    size_t live = 0;

    for (size_t i = 0; i < swim_count(s); i++)
        live += swim_at(s, i)->state == SWIM_ALIVE || swim_at(s, i)->state == SWIM_SUSPECT;
    MC_ASSERT(live == swim_live(s));
    MC_ASSERT(swim_self(s)->state == SWIM_ALIVE);
    MC_ASSERT(swim_health(s) <= 8);
}

/* One's own state must be readable by oneself. */
static void
check_state(struct swim *s, mc_ns now)
{
    struct buf b = {0};

    swim_state_write(s, &b, now);
    MC_ASSERT(swim_state_absorb(s, b.p, b.n, now) == MC_OK);
    buf_free(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct swim_conf conf = {
        .name = STR("lb1"),
        .incarnation = 7,
        .seed = n,
        .hooks = {NULL, send_nothing, sync_nothing, see, NULL},
    };
    struct addr peer;
    struct swim *s;
    mc_ns now = MC_SEC;

    memset(conf.boot, 0xb1, sizeof(conf.boot));
    MC_ASSERT(addr_parse_ip(STR("10.0.0.1"), 7707, &conf.addr));
    MC_ASSERT(addr_parse_ip(STR("10.0.0.2"), 7707, &peer));
    MC_ASSERT(swim_new(&conf, now, &s, NULL) == MC_OK);
    while (n > 0) {
        size_t len = (*data & 0xfe) * 2u, left = n - 1;
        bool state = *data & 1;

        len = len < left ? len : left;
        if (state)
            swim_state_absorb(s, data + 1, len, now);
        else
            swim_recv(s, &peer, data + 1, len, now);
        data += 1 + len;
        n -= 1 + len;
        check(s);
        now += 150 * MC_MS;
        MC_ASSERT(swim_tick(s, now) > now);
    }
    check_state(s, now);
    swim_free(&s);
    return 0;
}
