/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_topology.c - whatever a topology says: no crash, no leak, and a fault for every refusal;
 * what is accepted has no line that cannot be expanded.
 */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "lab/expand.h"
#include "lab/topology.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
expand_lines(const struct topology *t, const struct topology_host *h,
             const struct topology_lines *ls)
{
    const struct expand x = {t, h, "/d", "/l", "/h", "/m"};

    for (unsigned i = 0; i < ls->n; i++) {
        struct buf out = {0};
        struct errbuf e;
        size_t offset;

        MC_ASSERT(ls->v[i].line >= 1);
        MC_ASSERT(expand(&x, str_of(ls->v[i].text), &out, &offset, &e) == MC_OK);
        buf_free(&out);
    }
}

static void
check_good(const struct topology *t)
{
    MC_ASSERT(t->n_hosts >= 1 && t->n_hosts <= TOPOLOGY_HOSTS_MAX);
    MC_ASSERT(t->n_networks <= TOPOLOGY_NETWORKS_MAX);
    for (unsigned i = 0; i < t->n_hosts; i++) {
        const struct topology_host *h = &t->hosts[i];

        expand_lines(t, h, &h->routes);
        expand_lines(t, h, &h->nexthops);
        expand_lines(t, h, &h->prepare);
        for (unsigned l = 0; l < h->n_links; l++) {
            MC_ASSERT(h->links[l].network < t->n_networks);
            MC_ASSERT(h->links[l].weather.delay_ns >= 0);
            MC_ASSERT(h->links[l].weather.loss_ppm <= 1000000);
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct conf_faults faults = {0};
    struct buf text = {0};
    struct topology *t;
    enum mc_err rv = topology_parse("f", (struct str){(const char *)data, n}, &t, &faults);

    MC_ASSERT((rv == MC_OK) == (t != NULL));
    MC_ASSERT((rv == MC_OK) == (faults.n_errors == 0));
    conf_faults_text(&faults, &text);
    for (unsigned i = 0; i < faults.n; i++) {
        MC_ASSERT(faults.v[i].line >= 1);
        MC_ASSERT(strstr(faults.v[i].text, "expected") != NULL || strlen(faults.v[i].text) > 500);
    }
    if (t != NULL)
        check_good(t);
    buf_free(&text);
    conf_faults_free(&faults);
    topology_free(&t);
    return 0;
}
