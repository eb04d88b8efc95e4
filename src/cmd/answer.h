/* SPDX-License-Identifier: BSD-2-Clause
 *
 * answer.h - what a running balancer answers, as JSON, for the commands that show it.
 */
#ifndef MC_CMD_ANSWER_H
#define MC_CMD_ANSWER_H

#include <jansson.h>
#include <stdbool.h>

/* NULL when there is none, or a refusal; why has been told on standard error unless quiet. */
json_t *answer_get(const char *socket, const char *path, bool quiet);
/* As it is; releases it.  Returns 0, an exit status. */
int answer_print(json_t *);

/* A member; "-" or 0 when it is not there. */
const char *answer_word(const json_t *, const char *name);
long long answer_number(const json_t *, const char *name);
double answer_real(const json_t *, const char *name);

#endif
