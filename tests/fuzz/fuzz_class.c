/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fuzz_class.c - any bytes as a request, and as the rule that it may fit.
 *
 * Lines: a rule's path, a field's name, its value, a parameter, and the request's path.  Never a
 * crash; a path fits where the obvious way to compare them says so; shapes are bounded and fold to
 * plain text.
 */
#include <stdlib.h>

#include "base/check.h"
#include "place/class.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define RULE_MOST 16 /* the obvious way takes exponential time */
#define PATH_MOST 32

struct field {
    struct str name, value;
};

static struct str
field_of(const void *arg, struct str name, unsigned i)
{
    const struct field *f = arg;

    return i == 0 && str_eq_ci(f->name, name) ? f->value : STR_NONE;
}

static bool
obvious(struct str rule, struct str path)
{
    if (str_eq(rule, STR("*")))
        return true;
    if (rule.n == 0)
        return path.n == 0;
    if (str_starts(rule, STR("{}"))) {
        for (size_t n = 1; n <= path.n && path.p[n - 1] != '/'; n++)
            if (obvious((struct str){rule.p + 2, rule.n - 2}, (struct str){path.p + n, path.n - n}))
                return true;
        return false;
    }
    return path.n > 0 && rule.p[0] == path.p[0] &&
           obvious((struct str){rule.p + 1, rule.n - 1}, (struct str){path.p + 1, path.n - 1});
}

static bool
is_of(struct class_rule r, const struct class_ask *ask)
{
    struct class_rules rules = {&r, 1};
    const struct class_rule *found = class_rule_find(&rules, ask);

    MC_ASSERT(found == NULL || found == &r);
    return found != NULL;
}

static void
check_path(char *rule, const struct class_ask *ask)
{
    struct str only = ask->path;

    only = str_cut(&only, '?');
    only = str_cut(&only, '#');
    if (strlen(rule) > 0 && strlen(rule) <= RULE_MOST && only.n <= PATH_MOST &&
        memchr(rule, '*', strlen(rule) - 1) == NULL)
        MC_ASSERT(is_of((struct class_rule){.path = rule}, ask) == obvious(str_of(rule), only));
}

static void
check_shape(struct str path)
{
    char out[CLASS_NAME_MAX];
    unsigned n = class_fold(STR("GET"), path, out);

    MC_ASSERT(n < CLASS_NAME_MAX && out[n] == '\0');
    for (unsigned i = 0; i < n; i++)
        MC_ASSERT(out[i] >= ' ' && out[i] < 0x7f);
    MC_ASSERT(class_hash((struct str){out, n}) > 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct str rest = {(const char *)data, n};
    char *word[4];
    struct field f;
    struct class_ask ask;
    bool has_name, has_value;

    for (int i = 0; i < 4; i++)
        word[i] = str_dup(str_cut(&rest, '\n'));
    f = (struct field){str_of(word[1]), str_of(word[2])};
    ask = (struct class_ask){STR("GET"), rest, field_of, &f};
    check_path(word[0], &ask);
    check_shape(rest);
    has_name = is_of((struct class_rule){.header = word[1]}, &ask);
    has_value = is_of((struct class_rule){.header = word[1], .header_is = word[2]}, &ask);
    MC_ASSERT(has_name && has_value);
    has_name = is_of((struct class_rule){.query = word[3]}, &ask);
    has_value = is_of((struct class_rule){.query = word[3], .query_is = word[2]}, &ask);
    MC_ASSERT(has_name || !has_value);
    (void)is_of((struct class_rule){.grpc = word[0]}, &ask);
    for (int i = 0; i < 4; i++)
        free(word[i]);
    return 0;
}
