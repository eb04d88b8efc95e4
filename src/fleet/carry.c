/* SPDX-License-Identifier: BSD-2-Clause
 *
 * carry.c - see carry.h.
 */
#include "fleet/carry.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "fleet/brain_priv.h"
#include "fleet/care.h"
#include "fleet/open.h"

/* --- servers ------------------------------------------------------------------------------------
 */

static struct entry *
entry_at(const struct fleet *f, unsigned i)
{
    for (unsigned k = 0; k < f->n_adopted; k++) {
        if (i < f->adopted[k]->n_members)
            return f->adopted[k]->members[i];
        i -= f->adopted[k]->n_members;
    }
    return NULL;
}

bool
carry_next(const struct fleet *f, unsigned i, struct carried *out)
{
    struct entry *e = entry_at(f, i);

    if (e == NULL)
        return false;
    *out = (struct carried){
        .pool = e->s.pool_name,
        .server = e->s.name,
        .address = e->s.address_text,
        .weight = e->weight,
        .conf_weight = e->conf_weight,
        .conf_state = e->conf_state,
    };
    server_health_copy(&e->s, &out->health);
    return true;
}

static struct entry *
find(const struct fleet *f, const struct carried *c)
{
    struct entry *e;

    for (unsigned i = 0; (e = entry_at(f, i)) != NULL; i++)
        if (strcmp(e->s.pool_name, c->pool) == 0 && strcmp(e->s.name, c->server) == 0 &&
            strcmp(e->s.address_text, c->address) == 0)
            return e;
    return NULL;
}

void
carry_on(struct fleet *f, const struct carried *c)
{
    mc_ns now = f->loop ? loop_now(f->loop) : units_clock_ns();
    struct entry *e = find(f, c);
    struct health *h;

    if (e == NULL)
        return;
    h = open_begin(e);
    health_carry(h, &c->health, e->conf_state == c->conf_state, now, units_wall_ns());
    if (e->conf_weight == c->conf_weight && c->weight <= FLEET_WEIGHT_MAX)
        e->weight = c->weight;
    open_end(e, false, now);
    open_recompute(e->live, now);
    care_admin_changed(e);
}

/* --- costs --------------------------------------------------------------------------------------
 */

void
carry_costs(const struct brains *bs, void (*each)(void *arg, const char *pool, struct str text),
            void *arg)
{
    LIST_FOREACH (it, &bs->all) {
        const struct mind *m = LIST_ENTRY(it, struct mind, link);
        struct buf text = {0};

        if (!m->in_force)
            continue;
        know_save(m->know, brain_class_name, (void *)m, &text);
        each(arg, m->pool_name, (struct str){text.p, text.n});
        buf_free(&text);
    }
}

void
carry_costs_on(struct brains *bs, const char *pool, struct str text)
{
    free(map_put(&bs->carried, str_of(pool), str_dup(text)));
}

void
carry_costs_done(struct brains *bs)
{
    brains_drop_carried(bs);
}
