/* SPDX-License-Identifier: BSD-2-Clause
 *
 * privs.c - who we are and what we may.
 */
#include "control/privs.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

enum mc_err
privs_find(struct privs *p, const char *user, const char *group, struct errbuf *e)
{
    const struct passwd *pw;
    const struct group *gr;

    *p = (struct privs){.caps = {CAP_NET_BIND_SERVICE}, .n_caps = 1};
    if (user == NULL)
        return MC_OK;
    pw = getpwnam(user);
    if (pw == NULL) {
        err_set(e, "user: there is no user \"%s\"", user);
        return MC_ENOENT;
    }
    snprintf(p->name, sizeof(p->name), "%s", user);
    p->uid = pw->pw_uid;
    p->gid = pw->pw_gid;
    if (group != NULL) {
        gr = getgrnam(group);
        if (gr == NULL) {
            err_set(e, "group: there is no group \"%s\"", group);
            return MC_ENOENT;
        }
        p->gid = gr->gr_gid;
    }
    p->wanted = geteuid() != p->uid;
    return MC_OK;
}

void
privs_give_file(const struct privs *p, const char *path)
{
    if (p->wanted && geteuid() == 0 && lchown(path, p->uid, p->gid) != 0)
        log_warn("%s: cannot be given to %s: %s", path, p->name, strerror(errno));
}

void
privs_keep(struct privs *p, cap_value_t cap)
{
    MC_ASSERT(p->n_caps < PRIVS_CAPS_MAX);
    p->caps[p->n_caps++] = cap;
}

static bool
keep_cap(cap_t caps, cap_t now, cap_value_t c)
{
    cap_flag_value_t has = CAP_CLEAR;

    if (cap_get_flag(now, c, CAP_PERMITTED, &has) != 0)
        return false;
    return has == CAP_CLEAR || (cap_set_flag(caps, CAP_PERMITTED, 1, &c, CAP_SET) == 0 &&
                                cap_set_flag(caps, CAP_EFFECTIVE, 1, &c, CAP_SET) == 0);
}

/* Permitted and effective, not inheritable: for this process, not for what it might run.  A root
 * that never had one of them cannot keep it. */
static enum mc_err
keep_caps(const struct privs *p, struct errbuf *e)
{
    cap_t caps = cap_init(), now = cap_get_proc();
    bool ok = caps != NULL && now != NULL;

    for (unsigned i = 0; ok && i < p->n_caps; i++)
        ok = keep_cap(caps, now, p->caps[i]);
    ok = ok && cap_set_proc(caps) == 0;
    if (!ok)
        err_sys(e, "capabilities");
    cap_free(caps);
    cap_free(now);
    return ok ? MC_OK : MC_ESYS;
}

enum mc_err
privs_drop(const struct privs *p, struct errbuf *e)
{
    if (!p->wanted)
        return MC_OK;
    if (geteuid() != 0) {
        log_warn("user %s: only root can become another user; going on as uid %u", p->name,
                 (unsigned)geteuid());
        return MC_OK;
    }
    if (prctl(PR_SET_KEEPCAPS, 1) != 0 || initgroups(p->name, p->gid) != 0 ||
        setresgid(p->gid, p->gid, p->gid) != 0 || setresuid(p->uid, p->uid, p->uid) != 0)
        return err_sys(e, p->name);
    return keep_caps(p, e);
}

/* Inheritable, which ambient ones have to be. */
static bool
set_inheritable(bool on)
{
    cap_t caps = cap_get_proc();
    bool ok = caps != NULL;

    for (cap_value_t c = 0; ok && c <= CAP_LAST_CAP; c++) {
        cap_flag_value_t has = CAP_CLEAR;

        if (cap_get_flag(caps, c, CAP_PERMITTED, &has) == 0)
            ok = cap_set_flag(caps, CAP_INHERITABLE, 1, &c, on ? has : CAP_CLEAR) == 0;
    }
    ok = ok && cap_set_proc(caps) == 0;
    if (caps != NULL)
        cap_free(caps);
    return ok;
}

static bool
set_ambient(void)
{
    cap_t caps = cap_get_proc();
    bool ok = caps != NULL;

    for (cap_value_t c = 0; ok && c <= CAP_LAST_CAP; c++) {
        cap_flag_value_t has = CAP_CLEAR;

        if (cap_get_flag(caps, c, CAP_PERMITTED, &has) == 0 && has == CAP_SET)
            ok = cap_set_ambient(c, CAP_SET) == 0;
    }
    if (caps != NULL)
        cap_free(caps);
    return ok;
}

/* Of root they are the program's anyway.  Rights are the thread's: others do not have them. */
enum mc_err
privs_lend(bool on, struct errbuf *e)
{
    if (geteuid() == 0)
        return MC_OK;
    if (on ? set_inheritable(true) && set_ambient()
           : cap_reset_ambient() == 0 && set_inheritable(false))
        return MC_OK;
    return err_sys(e, "capabilities");
}

enum mc_err
privs_keep_lent(struct errbuf *e)
{
    return privs_lend(false, e);
}

void
privs_raise_fd_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == r.rlim_max)
        return;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0)
        log_warn("the limit of descriptors cannot be raised: %s", strerror(errno));
}

enum mc_err
privs_write_pid(const char *path, struct errbuf *e)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    bool ok;

    if (fd < 0)
        return err_sys(e, path);
    ok = write(fd, text, (size_t)n) == n;
    if (!ok)
        err_sys(e, path);
    close(fd);
    return ok ? MC_OK : MC_ESYS;
}
