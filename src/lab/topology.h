/* SPDX-License-Identifier: BSD-2-Clause
 *
 * topology.h - what a laboratory consists of, as its file says: networks, and hosts on them.
 *
 * Read once, immutable afterwards.  Nothing here knows of namespaces: it is text, checked.  Values
 * that a program is handed later (ip(8), sh(1)) are kept with their place in the file, so that what
 * that program says against them can be told with it.
 */
#ifndef MC_LAB_TOPOLOGY_H
#define MC_LAB_TOPOLOGY_H

#include "base/err.h"
#include "base/units.h"
#include "conf/conf_fault.h"

#define TOPOLOGY_HOSTS_MAX    64
#define TOPOLOGY_NETWORKS_MAX 16
#define TOPOLOGY_IFNAME_MAX   15 /* IFNAMSIZ less its NUL: a link is named after its network */

#define TOPOLOGY_ROLES(X)   \
    X(CLIENT, "client")     \
    X(ROUTER, "router")     \
    X(BALANCER, "balancer") \
    X(SERVER, "server")

enum topology_role {
#define X(id, word) TOPOLOGY_##id,
    TOPOLOGY_ROLES(X)
#undef X
        TOPOLOGY_N_ROLES
};

/* A value and where it stands.  file belongs to the topology. */
struct topology_line {
    char *text;
    const char *file;
    unsigned line;
};

struct topology_lines {
    struct topology_line *v;
    unsigned n;
};

/* What a link does to packets, each way.  Where the link does not say, its network does. */
struct topology_weather {
    mc_ns delay_ns;
    uint32_t loss_ppm;
    uint64_t bits_per_s; /* 0: no limit */
};

struct topology_network {
    char *name;
    struct topology_line at;
    struct topology_weather weather;
};

struct topology_link {
    char *name; /* of its network, and of the interface in the host */
    struct topology_line at;
    unsigned network; /* index */
    struct topology_lines addresses;
    struct topology_weather weather;
};

/* A file that is made for a host from a template. */
struct topology_file {
    char *name;
    struct topology_line at, from;
    unsigned mode;
};

struct topology_start {
    char *name;
    struct topology_line at, command, ready;
    unsigned port;   /* it is up when something listens there (TCP); 0: not looked at */
    mc_ns within_ns; /* it must be up so soon */
    bool by_hand;    /* not started by `up` */
};

/* A host; or what all hosts of a role have. */
struct topology_host {
    char *name;
    struct topology_line at;
    enum topology_role role;
    unsigned number; /* which of its role, from 1 */
    struct topology_link *links;
    struct topology_file *files;
    struct topology_start *starts;
    unsigned n_links, n_files, n_starts;
    struct topology_lines addresses; /* of lo */
    struct topology_lines sysctls, nexthops, routes, prepare;
    uint32_t cpu_ppm;      /* of one core; 0: all there is */
    uint64_t memory_bytes; /* 0: no limit */
};

struct topology {
    char *path;
    char **files;
    unsigned n_files;
    struct topology_network *networks;
    struct topology_host *hosts;
    unsigned n_networks, n_hosts;
    struct topology_host roles[TOPOLOGY_N_ROLES];
    struct topology_lines prepare; /* run before any host's */
};

/* MC_ESYNTAX: *out is NULL, faults tell why; there may be warnings otherwise.  The second reads
 * from memory and looks at no other file. */
enum mc_err topology_load(const char *path, struct topology **out, struct conf_faults *);
enum mc_err topology_parse(const char *name, struct str text, struct topology **out,
                           struct conf_faults *);
void topology_free(struct topology **);

/* The table for meercat-lab(8), in mdoc. */
void topology_keys_mdoc(struct buf *);

const char *topology_role_name(enum topology_role);
/* NULL, or TOPOLOGY_NETWORKS_MAX: there is none of that name. */
const struct topology_host *topology_host_find(const struct topology *, struct str name);
unsigned topology_network_find(const struct topology *, struct str name);
/* Where the template of a file is: beside the topology.  malloc'd. */
char *topology_template_path(const struct topology *, const struct topology_file *);
/* A host's link to a network, or NULL. */
const struct topology_link *topology_link_find(const struct topology_host *, unsigned network);

#endif
