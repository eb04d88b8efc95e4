/* SPDX-License-Identifier: BSD-2-Clause
 *
 * member_priv.h - the inside of a node's membership: member*.c.
 */
#ifndef MC_CONTROL_MEMBER_PRIV_H
#define MC_CONTROL_MEMBER_PRIV_H

#include "base/log.h"
#include "cluster/caps.h"
#include "control/member.h"

struct member_caps;

struct member {
    struct node *node;
    struct cluster *cluster;
    char *words_file;           /* NULL: they are not kept */
    struct timer words_timer;   /* when new words are written down */
    bool words_failed;          /* which was said */
    struct buf inherited_words; /* until member_start() */
    void (*on_left)(struct node *);
    uint64_t n_pieces; /* of load that went out */
    struct log_limit no_room;
    struct member_caps *caps;
};

/* Keys of facts: a letter and what it is about. */
#define MEMBER_FACT_HEALTH 'h'
#define MEMBER_FACT_CAP    'c'
#define MEMBER_FACT_VIP    'v'
#define MEMBER_KEY_N       9
struct str member_key(char kind, uint64_t about, uint8_t room[MEMBER_KEY_N]);

/* Facts that meant nothing when they came may mean something now. */
void member_hear_again(struct member *);

/* --- member_caps.c --- */

void member_caps_open(struct member *);
void member_caps_close(struct member *);
/* Another snapshot is in force. */
void member_caps_adopt(struct member *);
void member_caps_members(struct member *, const uint64_t *others, unsigned n);
void member_caps_hear(struct member *, uint64_t owner, const void *value, size_t n);
/* Our share of a server's max-concurrent; 0: it has none. */
uint32_t member_caps_share(const struct member *, uint64_t server_key);
const struct caps_counters *member_caps_counters(const struct member *);

/* What a member says of itself beside its name, see swim.h. */
struct member_card {
    uint64_t digest; /* of the configuration that should be the same everywhere */
    struct str version;
    struct str takeover; /* "10.0.0.1:7711"; empty: it takes no part in that */
};
#define MEMBER_CARD_MAX 128
size_t member_card_write(const struct member_card *, uint8_t out[MEMBER_CARD_MAX]);
/* False: it cannot be read, or there is none. */
bool member_card_read(const void *, size_t n, struct member_card *out);

#endif
