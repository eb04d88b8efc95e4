/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf.h - a configuration file, read and checked: what every room is told.
 *
 * Control thread or a command: the parser of libconfuse keeps its state in globals, so that only
 * one thread of a process may read a configuration at a time.
 */
#ifndef MC_CONTROL_CONF_H
#define MC_CONTROL_CONF_H

#include "base/err.h"
#include "base/log.h"
#include "conf/conf_fault.h"
#include "fleet/pool.h"
#include "io/loop.h"
#include "proxy/snapshot.h"

#define CONF_DEFAULT_FILE   "/etc/meercat/meercat.conf"
#define CONF_DEFAULT_SOCKET "/run/meercat/meercat.sock"

struct conf_access_log {
    char *file; /* NULL: no access log */
    enum access_format format;
};

struct conf_admin {
    char *socket; /* NULL: none */
    bool socket_is_default;
    unsigned socket_mode;
    struct addr http; /* len 0: none */
};

struct conf_cluster {
    bool given;
    struct addr bind, advertise; /* advertise.len 0: as bind */
    char **join;
    unsigned n_join;
    char *key_file; /* NULL: none */
    uint64_t bytes_per_s;
};

struct conf_takeover {
    bool given;
    struct addr bind; /* len 0: the cluster's, port TAKEOVER_PORT */
    char **interfaces;
    unsigned n_interfaces;
    struct addr *witnesses;
    unsigned n_witnesses;
    unsigned replicas;
};

/* When this balancer is fit for traffic, see fit.h. */
struct conf_fit {
    bool need_server;
    unsigned connections_percent; /* of max-connections; 0: never */
    mc_ns lag_ns;                 /* 0: never */
    mc_ns overload_after_ns, recover_after_ns;
    mc_ns stall_ns;
};

enum vip_mode { VIP_ROUTE, VIP_CLUSTER };

struct vip_conf {
    char *name;
    struct addr_net *addrs; /* AF_INET or AF_INET6, port 0 */
    unsigned n_addrs;
    char *interface;
    enum vip_mode mode;
    mc_ns return_after_ns;
};

struct conf {
    char *file;
    unsigned workers; /* 0: one a core */
    enum loop_engine engine;
    char *user, *group; /* NULL: stay who we are */
    char *node;
    bool node_given;
    char *pid_file;
    char *state_dir; /* NULL: nothing is kept */
    enum log_level log_level;
    mc_ns drain_timeout_ns, leave_grace_ns, upgrade_timeout_ns;
    unsigned max_connections;
    char *resolvers;
    uint64_t splice_bytes;
    struct conf_access_log access_log;
    struct conf_admin admin;
    struct conf_cluster cluster;
    struct conf_takeover takeover;
    struct conf_fit fit;
    struct vip_conf *vips;
    unsigned n_vips;
    struct listener_conf *listeners;
    unsigned n_listeners;
    struct pool_conf *pools;
    unsigned n_pools;
    struct route_conf *routes;
    unsigned n_routes;
    char digest[33]; /* of what the files say, comments and spaces left out */
    /* The same of listeners, pools and routes, but for addresses that are listened on: what the
     * balancers of a cluster should have in common. */
    uint64_t shared_digest;
};

/* Reads path and what it includes.  MC_OK: *out is the caller's; there may be warnings.  Otherwise
 * faults tell every error that was found, sorted by place. */
enum mc_err conf_load(const char *path, struct conf **out, struct conf_faults *);
/* The same from memory; name stands for the file in faults, include() is refused, and files that
 * values name (certificates) are not looked at. */
enum mc_err conf_parse(const char *name, struct str text, struct conf **out, struct conf_faults *);
void conf_free(struct conf **);

/* Free what a room's conf points to, not the struct itself; the struct is zeroed. */
void conf_listener_fini(struct listener_conf *);
void conf_route_fini(struct route_conf *);

#endif
