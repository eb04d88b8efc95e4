/* SPDX-License-Identifier: BSD-2-Clause
 *
 * notify.h - what the service manager is told (sd_notify(3)); nothing happens without one.  The
 * control thread; what cannot be sent is lost.
 */
#ifndef MC_CONTROL_NOTIFY_H
#define MC_CONTROL_NOTIFY_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/units.h"

void notify_ready(void);
void notify_reloading(void); /* notify_ready() ends it */
void notify_stopping(void);
/* From here on another process is the service; it says so itself when it is ready. */
void notify_main_pid(pid_t);
/* This process is one that the service manager did not start: its watchdog is ours, too. */
void notify_take_watchdog(void);
void notify_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* How often to call notify_alive(); 0: nobody waits for it. */
mc_ns notify_alive_every(void);
void notify_alive(void);
/* Standard error goes to the journal: no time stamps, levels as "<3>". */
bool notify_has_journal(void);

#endif
