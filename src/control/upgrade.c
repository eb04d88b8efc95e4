/* SPDX-License-Identifier: BSD-2-Clause
 *
 * upgrade.c - the process that goes, see upgrade.h.
 */
#include "control/upgrade.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/pack.h"
#include "control/admin.h"
#include "control/heritage.h"
#include "control/member.h"
#include "control/node.h"
#include "control/notify.h"
#include "control/takeover_node.h"
#include "control/vip.h"
#include "fleet/brain.h"
#include "io/rights.h"

#define COME_UP_NS (30 * MC_SEC)
/* Holders are chosen and told within some tenths of a second; the dead may have clients that are
 * still being looked for (takeover/adopt.c). */
#define PART_NS    (3 * MC_SEC)
/* A word to the holders, and theirs.  Nothing is protected meanwhile. */
#define RELEASE_NS (200 * MC_MS)
#define FIRST_PID  1

extern char **environ;

bool
upgrade_is_over(const struct node *n)
{
    return n->upgrade.state == UPGRADE_OVER;
}

bool
upgrade_is_under_way(const struct node *n)
{
    enum upgrade_state s = n->upgrade.state;

    return s >= UPGRADE_COMING && s <= UPGRADE_ALONE;
}

/* --- starting it --------------------------------------------------------------------------------
 */

static bool
send_rights(int to, const int *fds, unsigned n, struct errbuf *e)
{
    uint8_t text[8];
    struct pack_out o = {.p = text, .cap = sizeof(text)};

    pack_u8(&o, UPGRADE_SAYS_RIGHTS);
    pack_u8(&o, HERITAGE_VERSION);
    pack_u16(&o, (uint16_t)n);
    for (unsigned at = 0; at < n; at += RIGHTS_FDS_MAX) {
        unsigned part = n - at < RIGHTS_FDS_MAX ? n - at : RIGHTS_FDS_MAX;

        if (!rights_send(to, text, o.n, fds + at, part)) {
            err_sys(e, "handing descriptors over");
            return false;
        }
    }
    return true;
}

/* They wait in the socket until the new process reads them. */
static enum mc_err
send_heritage(const struct node *n, int to, struct errbuf *e)
{
    unsigned n_fds;
    int *fds;
    enum mc_err rv = heritage_make(n, &fds, &n_fds, e);

    if (rv != MC_OK)
        return rv;
    if (n_fds > HERITAGE_FDS) {
        err_set(e, "%u descriptors are too many to be handed over", n_fds);
        rv = MC_ERANGE;
    } else if (!send_rights(to, fds, n_fds, e)) {
        rv = MC_ESYS;
    }
    close(fds[0]);
    free(fds);
    return rv;
}

/* Ours, with the number of its socket.  The array is to be freed, and its first string. */
static char **
make_environ(int fd)
{
    size_t n = 0, kept = 1;
    char **env;

    while (environ[n] != NULL)
        n++;
    env = mc_alloc((n + 2) * sizeof(char *));
    env[0] = mc_printf(UPGRADE_ENV "=%d", fd);
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], UPGRADE_ENV "=", sizeof(UPGRADE_ENV)) != 0)
            env[kept++] = environ[i];
    return env;
}

/* A process like one that a shell would start, but for that descriptor. */
static int
spawn_with(const struct node *n, int fd, pid_t *pid)
{
    char **env = make_environ(fd);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int err;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, fd, fd); /* no longer close-on-exec */
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    err = posix_spawn(pid, n->options.binary, &files, &attr, n->options.argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    free(env[0]);
    free(env);
    return err;
}

static enum mc_err
spawn(const struct node *n, int fd, pid_t *pid, struct errbuf *e)
{
    struct errbuf ignored;
    enum mc_err rv = privs_lend(true, e);
    int err;

    if (rv != MC_OK)
        return rv;
    err = spawn_with(n, fd, pid);
    if (privs_lend(false, &ignored) != MC_OK)
        log_warn("upgrade: %s", ignored.text);
    if (err == 0)
        return MC_OK;
    errno = err;
    return err_sys(e, n->options.binary);
}

/* --- its end ------------------------------------------------------------------------------------
 */

static void
forget(struct upgrade *u)
{
    struct loop *l = u->watch.loop;

    if (l == NULL)
        return;
    loop_timer_clear(l, &u->timer);
    watch_drop(&u->watch);
    close(u->watch.fd);
    u->watch.loop = NULL;
}

/* "it ended with status 1" */
static void
reap(pid_t pid, char *text, size_t size)
{
    int status = 0;

    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status))
        snprintf(text, size, "it ended with status %d", WEXITSTATUS(status));
    else
        snprintf(text, size, "it was ended by signal %d", WTERMSIG(status));
}

void
upgrade_look_at_queues(struct node *n)
{
    for (unsigned i = 0; i < n->n_workers; i++)
        worker_look(n->workers[i]);
}

/* It was ready, and we were about to go. */
static void
stay(struct node *n)
{
    takeover_node_pass(n, PEERS_STAY);
    for (unsigned i = 0; i < n->n_workers; i++)
        worker_release(n->workers[i], false);
}

/* why NULL: its end says it. */
static void
fail(struct node *n, const char *why)
{
    struct upgrade *u = &n->upgrade;
    char end[64];

    if (u->state > UPGRADE_COMING)
        stay(n);
    forget(u);
    reap(u->pid, end, sizeof(end));
    upgrade_look_at_queues(n);
    err_set(&u->why, "%s", why != NULL ? why : end);
    u->state = UPGRADE_FAILED;
    u->n_failed++;
    log_error("upgrade: the new process (%ld) does not come up, everything stays as it was: %s",
              (long)u->pid, u->why.text);
}

void
upgrade_abort(struct node *n, const char *why)
{
    if (upgrade_is_under_way(n))
        fail(n, why);
}

/* --- handing over -------------------------------------------------------------------------------
 */

/* It was ready, and is no more: its end of the socket is closed. */
static bool
is_gone(int fd)
{
    struct pollfd p = {.fd = fd};

    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

static void
go(struct node *n)
{
    struct upgrade *u = &n->upgrade;
    static const uint8_t letter = UPGRADE_SAYS_GO;

    loop_timer_clear(n->loop, &u->timer);
    signal(SIGCHLD, SIG_IGN); /* it may end before us, and nobody else would ask how */
    u->state = UPGRADE_OVER;
    log_info("upgrade: process %ld has taken over", (long)u->pid);
    admin_accept(n, false);
    binds_hand_over(n->build.binds);
    member_hush(n);
    vip_hand_over(n);
    brains_set_dir(fleet_brains(n->build.fleet), NULL);
    node_stop_timers(n);
    takeover_node_hand_over(n, u->ifindex, u->n_interfaces);
    notify_main_pid(u->pid);
    if (!rights_send(u->watch.fd, &letter, 1, NULL, 0))
        log_warn("upgrade: process %ld cannot be told so: %s", (long)u->pid, strerror(errno));
    leave_to_heir(n, u->watch.fd);
}

/* --- with takeover: nobody is to miss us --------------------------------------------------------
 */

static void
enter(struct node *n, enum upgrade_state s, mc_ns at_most)
{
    n->upgrade.state = s;
    loop_timer_set(n->loop, &n->upgrade.timer, loop_now(n->loop) + at_most);
}

static void
part(struct node *n)
{
    enter(n, UPGRADE_PARTING, PART_NS);
    takeover_node_pass(n, PEERS_PART);
}

static void
release(struct node *n)
{
    enter(n, UPGRADE_RELEASING, RELEASE_NS);
    for (unsigned i = 0; i < n->n_workers; i++)
        worker_release(n->workers[i], true);
}

static void
be_alone(struct node *n)
{
    enter(n, UPGRADE_ALONE, RELEASE_NS);
    takeover_node_pass(n, PEERS_ALONE);
}

static void
go_if_there(struct node *n)
{
    if (is_gone(n->upgrade.watch.fd))
        fail(n, NULL);
    else
        go(n);
}

static bool
all_released(const struct node *n)
{
    for (unsigned i = 0; i < n->n_workers; i++)
        if (!worker_has_released(n->workers[i]))
            return false;
    return true;
}

void
upgrade_look(struct node *n)
{
    switch (n->upgrade.state) {
    case UPGRADE_PARTING:
        if (takeover_node_has_passed(n, PEERS_PART))
            release(n);
        break;
    case UPGRADE_RELEASING:
        if (all_released(n))
            be_alone(n);
        break;
    case UPGRADE_ALONE:
        if (takeover_node_has_passed(n, PEERS_ALONE))
            go_if_there(n);
        break;
    default: break;
    }
}

/* A step has taken too long: whoever does not answer cannot keep us. */
static void
on_timer(struct timer *t)
{
    struct node *n = container_of(t, struct node, upgrade.timer);

    switch (n->upgrade.state) {
    case UPGRADE_PARTING: release(n); break;
    case UPGRADE_RELEASING: be_alone(n); break;
    case UPGRADE_ALONE: go_if_there(n); break;
    default: fail(n, "it was not ready in time"); break;
    }
}

static void
read_interfaces(struct upgrade *u, const char *text, size_t size)
{
    struct pack_in in = {.p = (const uint8_t *)text, .n = size};
    unsigned n;

    (void)unpack_u8(&in);
    n = unpack_u8(&in);
    u->n_interfaces = 0;
    for (unsigned i = 0; i < n && i < GUARD_INTERFACES_MAX && !in.bad; i++)
        u->ifindex[i] = unpack_u32(&in);
    if (!in.bad && n <= GUARD_INTERFACES_MAX)
        u->n_interfaces = n;
}

static void
on_ready(struct node *n, const char *text, size_t size)
{
    if (is_gone(n->upgrade.watch.fd)) {
        fail(n, NULL);
        return;
    }
    watch_arm(&n->upgrade.watch, POLLIN);
    read_interfaces(&n->upgrade, text, size);
    if (n->takeover != NULL)
        part(n);
    else
        go(n);
}

static void
on_message(struct watch *w, unsigned revents)
{
    struct node *n = container_of(w, struct node, upgrade.watch);
    int fds[RIGHTS_FDS_MAX];
    unsigned n_fds;
    char text[256];
    ssize_t got = rights_recv(w->fd, text, sizeof(text) - 1, fds, &n_fds);

    while (n_fds > 0)
        close(fds[--n_fds]);
    if (got < 0 && errno == EAGAIN) {
        watch_arm(w, POLLIN);
        return;
    }
    if (n->upgrade.state == UPGRADE_OVER)
        return; /* it has ended; what we serve we serve */
    if (got > 0 && text[0] == UPGRADE_SAYS_READY) {
        on_ready(n, text, (size_t)got);
        return;
    }
    text[got > 0 ? got : 0] = '\0';
    fail(n, text[0] == UPGRADE_SAYS_FAILED ? text + 1 : NULL);
}

/* --- the beginning ------------------------------------------------------------------------------
 */

static enum mc_err
may_begin(const struct node *n, struct errbuf *e)
{
    if (upgrade_is_over(n))
        err_set(e, "process %ld has taken over already", (long)n->upgrade.pid);
    else if (n->ending)
        err_set(e, "the balancer is ending");
    else if (upgrade_is_under_way(n))
        err_set(e, "an upgrade is under way: process %ld is starting", (long)n->upgrade.pid);
    else if (n->upgrade.from.loop != NULL && !n->upgrade.went)
        err_set(e, "an upgrade is under way: process %ld is handing over", (long)n->upgrade.before);
    else if (getpid() == FIRST_PID)
        err_set(e, "process 1 cannot be replaced: with it all others of its container end");
    else if (n->options.binary == NULL)
        err_set(e, "the program cannot be found; --binary says where it is");
    else
        return MC_OK;
    return MC_EEXIST;
}

static void
watch_it(struct node *n, int fd)
{
    struct upgrade *u = &n->upgrade;

    u->state = UPGRADE_COMING;
    u->timer.fn = on_timer;
    loop_timer_set(n->loop, &u->timer, loop_now(n->loop) + COME_UP_NS);
    watch_init(&u->watch, n->loop, fd, on_message);
    watch_arm(&u->watch, POLLIN);
    log_info("upgrade: process %ld is starting, of %s", (long)u->pid, n->options.binary);
}

enum mc_err
upgrade_begin(struct node *n, struct errbuf *e)
{
    enum mc_err rv = may_begin(n, e);
    int pair[2];

    if (rv != MC_OK)
        return rv;
    n->upgrade.wall_ns = units_wall_ns();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return err_sys(e, "socketpair");
    rv = send_heritage(n, pair[0], e);
    if (rv == MC_OK)
        rv = spawn(n, pair[1], &n->upgrade.pid, e);
    close(pair[1]);
    if (rv == MC_OK) {
        watch_it(n, pair[0]);
        return MC_OK;
    }
    close(pair[0]);
    n->upgrade.why = *e;
    n->upgrade.state = UPGRADE_FAILED;
    n->upgrade.n_failed++;
    return rv;
}

void
upgrade_stop(struct node *n)
{
    upgrade_abort(n, "the balancer is ending");
    forget(&n->upgrade);
    if (n->upgrade.from.loop != NULL) {
        watch_drop(&n->upgrade.from);
        close(n->upgrade.from.fd);
        n->upgrade.from.loop = NULL;
    }
}

/* --- the program --------------------------------------------------------------------------------
 */

static char *
in_directory(const char *dir, size_t n, const char *name)
{
    char *path = mc_printf("%.*s/%s", (int)n, dir, name);

    if (access(path, X_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* As execvp(3) looks. */
static char *
in_path(const char *name)
{
    struct str dirs = str_of(getenv("PATH") != NULL ? getenv("PATH") : "");
    char *found = NULL;

    while (dirs.p != NULL && found == NULL) {
        struct str dir = str_cut(&dirs, ':');

        found = dir.n > 0 ? in_directory(dir.p, dir.n, name) : NULL;
    }
    return found;
}

/* Links stay links: what they lead to may be another program by then. */
char *
upgrade_find_binary(const char *argv0)
{
    char dir[4096];

    if (argv0[0] == '/')
        return mc_strdup(argv0);
    if (strchr(argv0, '/') == NULL)
        return in_path(argv0);
    return getcwd(dir, sizeof(dir)) != NULL ? mc_printf("%s/%s", dir, argv0) : NULL;
}
