/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_keys.h - every key of the configuration, one row each.
 *
 * The reader, the validator, `meercat check`, the defaults and the table of meercat.conf(5) all
 * come from these rows: a new key is one row, and a field to keep its value in.
 */
#ifndef MC_CONTROL_CONF_KEYS_H
#define MC_CONTROL_CONF_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "conf/conf_text.h"

/* Where a key may stand. */
enum conf_place {
    CONF_TOP,
    CONF_ACCESS_LOG,
    CONF_ADMIN,
    CONF_CLUSTER,
    CONF_TAKEOVER,
    CONF_FIT,
    CONF_VIP,
    CONF_LISTEN,
    CONF_HTTP2,
    CONF_PROTECT,
    CONF_TLS,
    CONF_POOL,
    CONF_POOL_TLS,
    CONF_AGENT_TLS,
    CONF_CHECK,
    CONF_SERVER,
    CONF_CLASS,
    CONF_ROUTE,
    CONF_N_PLACES
};

/* How a value is written, and into what kind of field it goes. */
enum conf_kind {
    CONF_SECTION,
    CONF_TEXT,         /* char * */
    CONF_FILE,         /* char *; "none" leaves it NULL */
    CONF_FILES,        /* list of char * */
    CONF_WORD,         /* any integer or enum: index into the words of `range` */
    CONF_FLAGS,        /* any integer: bits, word i of `range` is 1 << i; "none" is no bit */
    CONF_BOOL,         /* bool */
    CONF_UINT,         /* any unsigned */
    CONF_WORKERS,      /* unsigned: "auto" is 0 */
    CONF_PERCENT,      /* any unsigned: 20 or "20%" */
    CONF_RATIO,        /* double */
    CONF_MODE,         /* unsigned: octal permission bits */
    CONF_DURATION,     /* mc_ns */
    CONF_SIZE,         /* any unsigned */
    CONF_BIND,         /* list of struct addr */
    CONF_NET,          /* list of struct addr_net */
    CONF_VIP_ADDRESS,  /* list of struct addr_net: an address of a host, with its prefix */
    CONF_HTTP,         /* struct addr; "none" leaves it empty */
    CONF_IP,           /* list of struct addr, without port */
    CONF_INTERFACE,    /* char *, or a list of them: names as ip-link(8) has them */
    CONF_RESOLVER,     /* char *: list joined by commas, as dns_new() wants it */
    CONF_BALANCE,      /* const struct policy * */
    CONF_HASH_BY,      /* enum pool_hash_by; the name goes to pool_conf.hash_name */
    CONF_STATUSES,     /* uint16_t min, followed by uint16_t max */
    CONF_METHOD,       /* char *: token */
    CONF_PATH,         /* char * that begins with '/' */
    CONF_HOST,         /* list of char * */
    CONF_PEER,         /* list of char *: numeric or a name, with port */
    CONF_NAME,         /* char *: a host name or an IP address */
    CONF_ADDRESS,      /* char *: of a server, numeric, a name, or unix:/path */
    CONF_POOL_REF,     /* char *: name of a pool */
    CONF_LISTENER_REF, /* list of char *: names of listeners */
    CONF_PATTERN,      /* char *: path with holes, class.h */
    CONF_FIELD,        /* char *name, followed by char *value: "NAME" or "NAME: VALUE" */
    CONF_PARAM,        /* char *name, followed by char *value: "NAME" or "NAME=VALUE" */
    CONF_UPGRADE,      /* char *: list joined by commas, as upgrade_offer() wants it */
    CONF_GRPC,         /* char *: "pkg.Service/Method" */
    CONF_N_KINDS
};

struct conf_key {
    const char *name;
    enum conf_kind kind;
    enum conf_place place;
    enum conf_place inner; /* of a section: the place it opens */
    bool list;             /* several values may be given */
    bool required;
    bool titled; /* section "title" { }, many of them; else one of a kind */
    unsigned short offset, width, count_offset;
    const char *range; /* "min..max", "a|b|c", or NULL */
    const char *def;   /* as it would be written; NULL: none */
    const char *help;
};

/* All rows, in the order in which people read them; ends with a NULL name. */
extern const struct conf_key conf_keys[];

const struct conf_key *conf_key_find(enum conf_place, struct str name);
/* The name of the section, "pool", "check", ...; "" for the top level.  Two places may share it. */
const char *conf_place_name(enum conf_place);
/* The same for the walk over the files. */
extern const struct conf_grammar conf_grammar;

/* The word that a value's fault begins with and the manual's column "kind". */
const char *conf_kind_name(enum conf_kind);
/* Checks a value, and stores it when object (of the key's place) is not NULL.  False: e tells what
 * is wrong and what was expected. */
bool conf_value(const struct conf_key *, const char *text, void *object, struct errbuf *e);
/* Stores the default, when there is one. */
void conf_value_default(const struct conf_key *, void *object);

/* The tables of meercat.conf(5), in mdoc. */
void conf_keys_mdoc(struct buf *);

#endif
