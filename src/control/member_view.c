/* SPDX-License-Identifier: BSD-2-Clause
 *
 * member_view.c - the cluster as this member sees it: as JSON, and as metrics.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "cluster/keyring.h"
#include "control/member_priv.h"
#include "control/view.h"
#include "fleet/company.h"

/* --- one member ---------------------------------------------------------------------------------
 */

struct member_facts {
    unsigned n;
    mc_ns youngest; /* MC_NEVER_NS: there is none */
};

static struct member_facts
facts_of(const struct member *m, uint64_t owner)
{
    struct member_facts out = {.youngest = MC_NEVER_NS};
    struct facts_at at = {0};
    struct fact f;

    while (facts_next(cluster_facts(m->cluster), &at, loop_now(m->node->loop), &f)) {
        if (f.owner != owner)
            continue;
        out.n++;
        out.youngest = f.age_ns < out.youngest ? f.age_ns : out.youngest;
    }
    return out;
}

static json_t *
ms_or_null(mc_ns ns)
{
    return ns == MC_NEVER_NS ? json_null() : json_real((double)ns / (double)MC_MS);
}

/* What it says of itself. */
static void
add_card(const struct node *n, const struct swim_member *s, json_t *j)
{
    struct member_card card;
    char digest[17], version[MEMBER_CARD_MAX + 1];

    if (!member_card_read(s->meta, s->meta_n, &card))
        return;
    snprintf(digest, sizeof(digest), "%016" PRIx64, card.digest);
    snprintf(version, sizeof(version), STR_FMT, STR_ARG(card.version));
    json_object_set_new(j, "version", view_text(version));
    json_object_set_new(j, "config", json_string(digest));
    json_object_set_new(j, "same_config", json_boolean(card.digest == n->conf->shared_digest));
}

static void
add_traffic(const struct member *m, uint64_t id, json_t *j)
{
    struct member_facts facts = facts_of(m, id);
    struct cluster_traffic t;

    json_object_set_new(j, "facts", json_integer(facts.n));
    json_object_set_new(j, "newest_fact_ms", ms_or_null(facts.youngest));
    if (!cluster_traffic(m->cluster, id, &t))
        return;
    json_object_set_new(j, "heard_ms", ms_or_null(t.heard_ns));
    json_object_set_new(j, "bytes_in", json_integer((json_int_t)t.bytes_in));
    json_object_set_new(j, "bytes_out", json_integer((json_int_t)t.bytes_out));
    json_object_set_new(j, "clock_ms", json_real((double)t.skew_ns / (double)MC_MS));
}

static json_t *
one_member(const struct node *n, const struct swim_member *s)
{
    char addr[ADDR_TEXT];
    mc_ns since = loop_now(n->loop) - s->since;
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:b, s:f, s:I, s:o, s:o}", "name", s->name, "address",
        addr_text(&s->addr, addr), "state", swim_state_word(s->state), "self", (int)s->self,
        "since_s", (double)since / (double)MC_SEC, "incarnation", (json_int_t)s->incarnation,
        "rtt_ms", s->rtt_ns > 0 ? json_real((double)s->rtt_ns / (double)MC_MS) : json_null(),
        "loss", s->self ? json_null() : json_real((double)s->probe_loss));

    add_card(n, s, j);
    add_traffic(n->member, s->id, j);
    return j;
}

/* --- the cluster --------------------------------------------------------------------------------
 */

static unsigned
count_state(const struct swim *s, enum swim_state state)
{
    unsigned n = 0;

    for (size_t i = 0; i < swim_count(s); i++)
        n += swim_at(s, i)->state == state;
    return n;
}

/* Live members whose configuration is not ours. */
static unsigned
count_others_config(const struct node *n)
{
    const struct swim *s = cluster_swim(n->member->cluster);
    struct member_card card;
    unsigned differ = 0;

    for (size_t i = 0; i < swim_count(s); i++) {
        const struct swim_member *m = swim_at(s, i);

        if (m->state == SWIM_ALIVE && member_card_read(m->meta, m->meta_n, &card))
            differ += card.digest != n->conf->shared_digest;
    }
    return differ;
}

json_t *
member_brief(const struct node *n)
{
    const struct swim *s;

    if (!n->member)
        return json_null();
    s = cluster_swim(n->member->cluster);
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:b, s:i, s:b}", "name", swim_self(s)->name,
                     "alive", (int)count_state(s, SWIM_ALIVE), "suspect",
                     (int)count_state(s, SWIM_SUSPECT), "dead", (int)count_state(s, SWIM_DEAD),
                     "left", (int)count_state(s, SWIM_LEFT), "joined", (int)swim_joined(s),
                     "other_configs", (int)count_others_config(n), "name_taken",
                     (int)cluster_conflict(n->member->cluster));
}

static json_t *
refused(const struct member *m)
{
    json_t *j = json_object();

    for (unsigned f = SEAL_F_NONE + 1; f < SEAL_N_FAULTS; f++)
        json_object_set_new(j, seal_fault_label(f),
                            json_integer((json_int_t)seal_count(cluster_keyring(m->cluster), f)));
    return j;
}

static json_t *
counters(const struct member *m)
{
    const struct cluster_counters *c = cluster_counters(m->cluster);
    const struct swim_counters *s = swim_counters(cluster_swim(m->cluster));
    const struct facts_counters *f = facts_counters(cluster_facts(m->cluster));
    const struct words_counters *w = words_counters(cluster_words(m->cluster));
    json_t *j = json_object(), *part;

#define X(name, text) json_object_set_new(part, #name, json_integer((json_int_t)at->name));
#define PART(key, from, LIST)              \
    do {                                   \
        __typeof__(from) at = (from);      \
        part = json_object();              \
        LIST(X);                           \
        json_object_set_new(j, key, part); \
    } while (0)
    PART("datagrams", c, CLUSTER_COUNTERS);
    PART("membership", s, SWIM_COUNTERS);
    PART("facts", f, FACTS_COUNTERS);
    PART("words", w, WORDS_COUNTERS);
    PART("caps", member_caps_counters(m), CAPS_COUNTERS);
#undef PART
#undef X
    return j;
}

static json_t *
keys(const struct member *m)
{
    const struct keyring *k = cluster_keyring(m->cluster);
    char id[KEYRING_ID_TEXT];
    json_t *list = json_array();

    for (unsigned i = 0; i < keyring_count(k) && !keyring_is_null(k); i++)
        json_array_append_new(list, json_string(keyring_digest(k, i, id)));
    return list;
}

json_t *
member_view(const struct node *n)
{
    json_t *list = json_array(), *j;

    if (!n->member)
        return json_pack("{s:o, s:o}", "members", list, "cluster", json_null());
    for (size_t i = 0; i < swim_count(cluster_swim(n->member->cluster)); i++)
        json_array_append_new(list, one_member(n, swim_at(cluster_swim(n->member->cluster), i)));
    j = json_pack("{s:o, s:o, s:o, s:o, s:i}", "members", list, "cluster", member_brief(n), "keys",
                  keys(n->member), "refused", refused(n->member), "health",
                  (int)swim_health(cluster_swim(n->member->cluster)));
    json_object_set_new(j, "counters", counters(n->member));
    return j;
}

/* --- servers ------------------------------------------------------------------------------------
 */

static json_t *
word_view(const struct word *w)
{
    char who[WORDS_WHO_MAX + 1], where[WORDS_WHO_MAX + 1];
    int64_t when_ms = w->when_ms < INT64_MAX / MC_MS ? w->when_ms : INT64_MAX / MC_MS;
    json_t *j;

    snprintf(who, sizeof(who), STR_FMT, STR_ARG(w->who));
    snprintf(where, sizeof(where), STR_FMT, STR_ARG(w->where));
    j = json_pack("{s:s, s:o, s:o, s:o}", "say", word_say_text(w->say), "who", view_text(who),
                  "where", view_text(where), "when", view_wall_time(when_ms * MC_MS));
    if (w->say == WORD_WEIGHT)
        json_object_set_new(j, "weight", json_integer(w->weight));
    return j;
}

static json_t *
words_on(const struct member *m, const struct server *s)
{
    static const enum word_about abouts[] = {WORD_ABOUT_STATE, WORD_ABOUT_WEIGHT};
    char *name = mc_printf("%s/%s", s->pool_name, s->name);
    json_t *list = json_array();

    for (size_t i = 0; i < MC_COUNT(abouts); i++) {
        const struct word *w = words_get(cluster_words(m->cluster), str_of(name), abouts[i]);

        if (w && w->say != WORD_STATE_CONF && w->say != WORD_WEIGHT_CONF)
            json_array_append_new(list, word_view(w));
    }
    free(name);
    return list;
}

void
member_server_view(const struct node *n, struct server *s, json_t *into)
{
    uint64_t owner[AGREE_OWNERS];
    unsigned n_owners;
    json_t *list;

    if (!n->member)
        return;
    list = json_array();
    n_owners = company_owners(s, owner);
    for (unsigned i = 0; i < n_owners; i++) {
        const struct swim_member *m = swim_find_id(cluster_swim(n->member->cluster), owner[i]);

        if (m)
            json_array_append_new(list, json_string(m->name));
    }
    json_object_set_new(into, "owners", list);
    json_object_set_new(into, "words", words_on(n->member, s));
    json_object_set_new(into, "max_concurrent_share",
                        json_integer(member_caps_share(n->member, company_server_key(s))));
}

/* --- metrics ------------------------------------------------------------------------------------
 */

static void
family(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
gauge(struct buf *b, const char *name, const char *help, double value)
{
    family(b, name, "gauge", help);
    buf_printf(b, "%s %.15g\n", name, value);
}

static void
member_states(const struct swim *s, struct buf *b)
{
    static const enum swim_state states[] = {SWIM_ALIVE, SWIM_SUSPECT, SWIM_DEAD, SWIM_LEFT};

    family(b, "meercat_cluster_members", "gauge", "members by state, this one included");
    for (size_t i = 0; i < MC_COUNT(states); i++)
        buf_printf(b, "meercat_cluster_members{state=\"%s\"} %u\n", swim_state_word(states[i]),
                   count_state(s, states[i]));
}

static void
refusals(const struct member *m, struct buf *b)
{
    family(b, "meercat_cluster_refused_total", "counter",
           "datagrams and connections that were not let in");
    for (unsigned f = SEAL_F_NONE + 1; f < SEAL_N_FAULTS; f++)
        buf_printf(b, "meercat_cluster_refused_total{reason=\"%s\"} %" PRIu64 "\n",
                   seal_fault_label(f), seal_count(cluster_keyring(m->cluster), f));
}

static void
counter_families(const struct member *m, struct buf *b)
{
    const struct cluster_counters *c = cluster_counters(m->cluster);
    const struct swim_counters *s = swim_counters(cluster_swim(m->cluster));
    const struct facts_counters *f = facts_counters(cluster_facts(m->cluster));
    const struct words_counters *w = words_counters(cluster_words(m->cluster));

#define X(name, text)                                                 \
    do {                                                              \
        family(b, PREFIX #name "_total", "counter", text);            \
        buf_printf(b, PREFIX #name "_total %" PRIu64 "\n", at->name); \
    } while (0);
#define PREFIX "meercat_cluster_"
    {
        const struct cluster_counters *at = c;
        CLUSTER_COUNTERS(X)
    }
#undef PREFIX
#define PREFIX "meercat_membership_"
    {
        const struct swim_counters *at = s;
        SWIM_COUNTERS(X)
    }
#undef PREFIX
#define PREFIX "meercat_facts_"
    {
        const struct facts_counters *at = f;
        FACTS_COUNTERS(X)
    }
#undef PREFIX
#define PREFIX "meercat_words_"
    {
        const struct words_counters *at = w;
        WORDS_COUNTERS(X)
    }
#undef PREFIX
#define PREFIX "meercat_caps_"
    {
        const struct caps_counters *at = member_caps_counters(m);
        CAPS_COUNTERS(X)
    }
#undef PREFIX
#undef X
}

void
member_metrics(const struct node *n, struct buf *b)
{
    const struct member *m = n->member;
    struct company_counts counts;

    if (!m)
        return;
    company_counts(n->build.fleet, &counts);
    member_states(cluster_swim(m->cluster), b);
    gauge(b, "meercat_cluster_other_configs",
          "live members whose listeners, pools or routes are not ours", count_others_config(n));
    gauge(b, "meercat_cluster_health", "0 is well, up to 8: this member itself is slow",
          swim_health(cluster_swim(m->cluster)));
    gauge(b, "meercat_cluster_owned_servers", "servers that are ours to watch",
          (double)counts.owned);
    family(b, "meercat_cluster_hearsay_refused_total", "counter",
           "verdicts on servers not followed since our own requests succeed");
    buf_printf(b, "meercat_cluster_hearsay_refused_total %" PRIu64 "\n", counts.hearsay_refused);
    refusals(m, b);
    counter_families(m, b);
}
