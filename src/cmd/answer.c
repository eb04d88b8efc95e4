/* SPDX-License-Identifier: BSD-2-Clause
 *
 * answer.c - what a running balancer answers, see answer.h.
 */
#include "cmd/answer.h"

#include "cmd/client.h"

static void
tell_why(const json_t *refusal, const struct errbuf *e)
{
    const char *why = json_string_value(json_object_get(refusal, "error"));

    if (e->text[0])
        why = e->text;
    fprintf(stderr, "meercat: %s\n", why ? why : "the answer is not what was asked for");
}

json_t *
answer_get(const char *socket, const char *path, bool quiet)
{
    struct client_answer a;
    struct errbuf e = {""};
    json_t *j = NULL;

    if (client_ask(socket, path, NULL, &a, &e) == MC_OK)
        j = json_loadb(a.body.p ? a.body.p : "", a.body.n, 0, NULL);
    buf_free(&a.body);
    if (j != NULL && a.status == 200)
        return j;
    if (!quiet)
        tell_why(j, &e);
    json_decref(j);
    return NULL;
}

int
answer_print(json_t *j)
{
    json_dumpf(j, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
    return 0;
}

const char *
answer_word(const json_t *j, const char *name)
{
    const char *s = json_string_value(json_object_get(j, name));

    return s != NULL ? s : "-";
}

long long
answer_number(const json_t *j, const char *name)
{
    return json_integer_value(json_object_get(j, name));
}

double
answer_real(const json_t *j, const char *name)
{
    return json_number_value(json_object_get(j, name));
}
