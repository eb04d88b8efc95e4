/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_check.h - what concerns several sections of a configuration at once.  Private to conf*.c.
 */
#ifndef MC_CONTROL_CONF_CHECK_H
#define MC_CONTROL_CONF_CHECK_H

#include "control/conf.h"
#include "control/conf_keys.h"
#include "conf/conf_text.h"

/* A value that is looked at again when all is read. */
struct conf_mention {
    char *text;
    struct conf_at at;
};

struct conf_mentions {
    struct conf_mention *v;
    unsigned n, cap;
};

/* Where a value of a tls section stands. */
struct conf_tls_value {
    const void *section; /* as libconfuse has it */
    const struct conf_key *key;
    struct conf_at at;
};

/* One reading of a configuration. */
struct conf_run {
    struct conf_text *text;
    struct conf_faults *faults;
    struct conf_mentions binds;     /* addresses that are listened on */
    struct conf_mentions pool_refs; /* pools that routes name */
    struct conf_tls_value *tls_values;
    unsigned n_tls_values;
    bool with_files;                        /* files that values name are looked at */
    unsigned next_server;                   /* servers turned into structs so far, all pools */
    unsigned next_tls;                      /* tls sections of listeners */
    unsigned next_pool_tls, next_agent_tls; /* of pools */
    unsigned next_class;                    /* and class rules */
};

void conf_run_fault(struct conf_run *, struct conf_at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void conf_run_warning(struct conf_run *, struct conf_at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void conf_run_bind(struct conf_run *, const char *text, struct conf_at);
void conf_run_pool_ref(struct conf_run *, const char *text, struct conf_at);
void conf_run_tls_value(struct conf_run *, const void *section, const struct conf_key *,
                        struct conf_at);
void conf_run_fini(struct conf_run *);

/* The i-th class rule of a pool, whose own keys are known. */
void conf_check_class(struct conf_run *, struct conf_at, const struct pool_conf *, unsigned i);
/* conf_tls.c: looks at the files that a listener's tls section names, and makes its domain of them.
 * section: as in conf_run_tls_value(). */
void conf_tls_load(struct conf_run *, const void *section, struct conf_at, struct listener_conf *);
/* The same for one of the two of a pool, whose servers are known. */
void conf_tls_load_dial(struct conf_run *, const void *section, struct conf_at,
                        const struct pool_conf *, struct pool_tls_conf *);
void conf_check_cluster(struct conf_run *, struct conf_at, const struct conf *);
void conf_check(struct conf_run *, const struct conf *);

#endif
