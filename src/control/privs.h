/* SPDX-License-Identifier: BSD-2-Clause
 *
 * privs.h - who we are and what we may: user, capabilities, descriptors, the file with our id.
 */
#ifndef MC_CONTROL_PRIVS_H
#define MC_CONTROL_PRIVS_H

#include <stdbool.h>
#include <sys/capability.h>
#include <sys/types.h>

#include "base/err.h"

#define PRIVS_CAPS_MAX 8

/* Who to become.  wanted false: stay who we are. */
struct privs {
    bool wanted;
    char name[64];
    uid_t uid;
    gid_t gid;
    cap_value_t caps[PRIVS_CAPS_MAX]; /* what is kept */
    unsigned n_caps;
};

/* user NULL: nobody to become; group NULL: the user's own.  Names are looked up here, before
 * anything depends on them. */
enum mc_err privs_find(struct privs *, const char *user, const char *group, struct errbuf *);
/* Gives a file that was made before the drop to who we shall be. */
void privs_give_file(const struct privs *, const char *path);
/* One more right to keep, beside that to bind ports below 1024, which later reloads want. */
void privs_keep(struct privs *, cap_value_t);
/* Becomes that user, with the rights that are kept and no others.  Call with one thread: others
 * inherit.  A warning and no more when we are not root. */
enum mc_err privs_drop(const struct privs *, struct errbuf *);

/* While on, a program that this thread starts has our rights, too. */
enum mc_err privs_lend(bool on, struct errbuf *);
/* The program was started so: keeps them for itself. */
enum mc_err privs_keep_lent(struct errbuf *);

/* The soft limit of descriptors becomes the hard one. */
void privs_raise_fd_limit(void);

enum mc_err privs_write_pid(const char *path, struct errbuf *);

#endif
