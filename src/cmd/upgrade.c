/* SPDX-License-Identifier: BSD-2-Clause
 *
 * upgrade.c - `meercat upgrade`: a new process takes over; waits until it has, or has failed.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/units.h"
#include "cmd/answer.h"
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "cmd/options.h"

#define LOOK_NS (50 * MC_MS)
/* The balancer gives the new process 30 s. */
#define WAIT_NS (60 * MC_SEC)

/* The id of the process that starts; 0: refused, and why. */
static long long
order(const char *socket, struct errbuf *e)
{
    struct client_answer a = {0};
    long long pid = 0;
    json_t *j;

    if (client_ask(socket, "/v1/upgrade", "", &a, e) != MC_OK)
        return 0;
    j = json_loadb(a.body.p ? a.body.p : "", a.body.n, 0, NULL);
    if (a.status == 200)
        pid = answer_number(j, "pid");
    else
        err_set(e, "%s", answer_word(j, "error"));
    json_decref(j);
    buf_free(&a.body);
    return pid;
}

enum outcome { WAITING, DONE, FAILED };

/* Between the two processes there may be nobody for a moment. */
static enum outcome
look(const char *socket, long long pid, struct errbuf *e)
{
    json_t *status = answer_get(socket, "/v1/status", true);
    const json_t *upgrade = json_object_get(status, "upgrade");
    enum outcome what = WAITING;

    if (status != NULL && answer_number(status, "pid") == pid) {
        what = DONE;
    } else if (status != NULL && strcmp(answer_word(upgrade, "state"), "failed") == 0) {
        err_set(e, "%s", answer_word(upgrade, "why"));
        what = FAILED;
    }
    json_decref(status);
    return what;
}

static enum outcome
wait_for(const char *socket, long long pid, struct errbuf *e)
{
    static const struct timespec pause = {.tv_nsec = LOOK_NS};
    mc_ns end = units_clock_ns() + WAIT_NS;
    enum outcome what;

    err_set(e, "process %lld has neither taken over nor failed", pid);
    while ((what = look(socket, pid, e)) == WAITING && units_clock_ns() < end)
        nanosleep(&pause, NULL);
    return what;
}

int
cmd_upgrade(int argc, char **argv)
{
    struct options o;
    struct errbuf e = {"refused"};
    int rv = options_read(argc, argv, false, 0, &o);
    long long pid;
    bool ok;

    if (rv != 0)
        return rv;
    pid = order(o.socket, &e);
    ok = pid != 0 && wait_for(o.socket, pid, &e) == DONE;
    if (o.json)
        answer_print(ok ? json_pack("{s:b, s:I}", "ok", 1, "pid", (json_int_t)pid)
                        : json_pack("{s:s}", "error", e.text));
    else if (ok)
        printf("process %lld has taken over\n", pid);
    else
        fprintf(stderr, "meercat: %s\n", e.text);
    return ok ? 0 : 1;
}
