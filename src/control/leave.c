/* SPDX-License-Identifier: BSD-2-Clause
 *
 * leave.c - see leave.h.
 */
#include "control/leave.h"

#include "base/check.h"
#include "base/log.h"
#include "control/member.h"
#include "control/node.h"
#include "control/notify.h"
#include "control/takeover_node.h"

/* For one more request of an idle connection.  A client that asks less often meets the end of the
 * connection instead, which breaks a request only if that crosses it on the wire. */
#define IDLE_NS      MC_SEC
/* Clients repeat a SYN after a second (RFC 6298 2.1): addresses are to be elsewhere by then. */
#define WITHDRAW_NS  (800 * MC_MS)
/* Until a withdrawn address has gone for everybody; SYNs are dropped meanwhile. */
#define GONE_NS      (100 * MC_MS)
/* For packets of connections that have gone to other balancers; takeover.c ends it sooner.  And for
 * another member to ask for our addresses, which takes it some 60 ms (vip_assign.h). */
#define LINGER_NS    MC_SEC
/* Beyond the time limit, which workers keep themselves, for their last answers to go out. */
#define END_GRACE_NS (2 * MC_SEC)

static const char *const step_texts[] = {
#define X(name, text) [LEAVE_##name] = text,
    LEAVE_STEPS(X)
#undef X
};

const char *
leave_step_text(const struct node *n)
{
    return step_texts[n->leave.step];
}

static void
enter(struct node *n, enum leave_step step, mc_ns at_most)
{
    MC_ASSERT(step > n->leave.step);
    n->leave.step = step;
    loop_timer_set(n->loop, &n->leave.timer, loop_now(n->loop) + at_most);
}

/* Whoever connects from now on is refused by the kernel, and can go elsewhere. */
static void
on_gone(struct timer *t)
{
    node_close_binds(container_of(t, struct node, leave.withdraw_timer));
}

static void
withdraw(struct node *n)
{
    if (n->leave.withdrawn)
        return;
    n->leave.withdrawn = true;
    fit_say(n, FIT_STOPPING, false, NULL);
    n->leave.withdraw_timer.fn = on_gone;
    loop_timer_set(n->loop, &n->leave.withdraw_timer, loop_now(n->loop) + GONE_NS);
}

static void
on_withdraw(struct timer *t)
{
    withdraw(container_of(t, struct node, leave.withdraw_timer));
}

static void
drain(struct node *n)
{
    mc_ns bound = n->current->drain_timeout_ns;
    char text[UNITS_TEXT];

    enter(n, LEAVE_DRAIN, bound + END_GRACE_NS);
    log_info("ending: requests under way have %s", units_duration_text(bound, text));
    upgrade_refuse(n);
    for (unsigned i = 0; i < n->n_workers; i++)
        worker_drain(n->workers[i], loop_now(n->loop) + bound, IDLE_NS);
    if (!n->leave.late) {
        node_close_binds(n);
        return;
    }
    n->leave.withdraw_timer.fn = on_withdraw;
    loop_timer_set(n->loop, &n->leave.withdraw_timer, loop_now(n->loop) + WITHDRAW_NS);
}

static void
part(struct node *n, mc_ns grace)
{
    char text[UNITS_TEXT];

    enter(n, LEAVE_PART, grace);
    log_info("leaving: clients have %s to go elsewhere", units_duration_text(grace, text));
    for (unsigned i = 0; i < n->n_workers; i++)
        worker_part(n->workers[i]);
}

static void
stop(struct node *n)
{
    loop_stop(n->loop);
}

static void
say_goodbye(struct node *n)
{
    enter(n, LEAVE_GOODBYE, END_GRACE_NS);
    member_leave(n, stop);
}

static void
on_timer(struct timer *t)
{
    struct node *n = container_of(t, struct node, leave.timer);

    if (n->leave.step == LEAVE_PART) {
        drain(n);
        return;
    }
    if (n->leave.step == LEAVE_LINGER) {
        say_goodbye(n);
        return;
    }
    log_warn("workers do not end in time");
    upgrade_refuse(n);
    loop_stop(n->loop);
}

void
leave_begin(struct node *n)
{
    mc_ns grace = n->conf->leave_grace_ns;

    if (n->ending) {
        log_warn("told to end a second time: ending at once");
        loop_stop(n->loop);
        return;
    }
    upgrade_abort(n, "the balancer is ending");
    n->ending = true;
    n->leave.timer.fn = on_timer;
    n->leave.late = n->vip != NULL && n->takeover == NULL && grace > 0;
    n->leave.withdrawn = !n->leave.late;
    if (n->leave.withdrawn)
        fit_say(n, FIT_STOPPING, false, NULL);
    takeover_node_leave(n);
    notify_stopping();
    if (grace > 0)
        part(n, grace);
    else
        drain(n);
}

void
leave_to_heir(struct node *n, int heir)
{
    mc_ns bound = n->conf->upgrade_timeout_ns;

    n->ending = true;
    n->leave.timer.fn = on_timer;
    enter(n, LEAVE_HANDED_OVER, bound + END_GRACE_NS);
    for (unsigned i = 0; i < n->n_workers; i++)
        worker_hand_over(n->workers[i], heir, loop_now(n->loop) + bound);
}

/* The cluster is told behind it: who has left hears no peer any more, and the host of one who is no
 * member, but takes in packets to an address for a moment more, seems to carry it still. */
static void
linger(struct node *n)
{
    log_info("all requests have ended");
    withdraw(n);
    if (takeover_node_part(n) || vip_is_handing_over(n))
        enter(n, LEAVE_LINGER, LINGER_NS);
    else
        say_goodbye(n);
}

static bool
has_parted(const struct node *n)
{
    return (n->takeover == NULL || takeover_node_has_parted(n)) && !vip_is_handing_over(n);
}

void
leave_look(struct node *n)
{
    if (atomic_load(&n->n_drained) != n->n_workers)
        return;
    if (n->leave.step == LEAVE_HANDED_OVER && upgrade_is_last(n))
        loop_stop(n->loop);
    if (n->leave.step == LEAVE_DRAIN)
        linger(n);
    else if (n->leave.step == LEAVE_LINGER && has_parted(n))
        say_goodbye(n);
}
