/* SPDX-License-Identifier: BSD-2-Clause
 *
 * notify.c - what the service manager is told.
 */
#include "control/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

void
notify_ready(void)
{
    sd_notify(0, "READY=1");
}

void
notify_reloading(void)
{
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, (int64_t)(units_clock_ns() / MC_US));
}

void
notify_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

void
notify_main_pid(pid_t pid)
{
    sd_notifyf(0, "MAINPID=%ld", (long)pid);
}

/* sd_watchdog_enabled(3) looks whether the variable names the caller. */
void
notify_take_watchdog(void)
{
    char text[24];

    if (getenv("WATCHDOG_PID") == NULL)
        return;
    snprintf(text, sizeof(text), "%ld", (long)getpid());
    setenv("WATCHDOG_PID", text, 1);
}

void
notify_status(const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    sd_notifyf(0, "STATUS=%s", text);
}

mc_ns
notify_alive_every(void)
{
    uint64_t us;

    if (sd_watchdog_enabled(0, &us) <= 0)
        return 0;
    return (mc_ns)us * MC_US / 2; /* as sd_watchdog_enabled(3) recommends */
}

void
notify_alive(void)
{
    sd_notify(0, "WATCHDOG=1");
}

bool
notify_has_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM"); /* "device:inode", systemd.exec(5) */
    unsigned long dev, ino;
    struct stat st;

    return stream != NULL && sscanf(stream, "%lu:%lu", &dev, &ino) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}
