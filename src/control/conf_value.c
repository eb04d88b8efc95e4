/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_value.c - values of keys: checked, and stored into the fields that the table names.
 *
 * One function a kind, in conf_value_*.c.  Each is called twice: with no object while the file is
 * read, so that a fault gets the line of its value, and with the object once the whole is known to
 * be good.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "control/conf_value_priv.h"

/* --- into fields ------------------------------------------------------------------------------ */

void
value_store_uint(const struct conf_key *k, void *field, uint64_t v)
{
    if (field == NULL)
        return;
    switch (k->width) {
    case 1: *(uint8_t *)field = (uint8_t)v; break;
    case 2: *(uint16_t *)field = (uint16_t)v; break;
    case 4: *(uint32_t *)field = (uint32_t)v; break;
    case 8: *(uint64_t *)field = v; break;
    default: MC_NEVER("width of a number");
    }
}

void
value_store_text(void *field, struct str s)
{
    char **p = field;

    if (field == NULL)
        return;
    free(*p);
    *p = str_dup(s);
}

void *
value_list_add(const struct conf_key *k, void *object, size_t elem_bytes)
{
    char **list = (char **)((char *)object + k->offset);
    unsigned *n = (unsigned *)((char *)object + k->count_offset);
    char *elem;

    *list = mc_realloc(*list, (*n + 1) * elem_bytes);
    elem = *list + *n * elem_bytes;
    memset(elem, 0, elem_bytes);
    (*n)++;
    return elem;
}

void
value_list_join(void *field, struct str text)
{
    char **list = field, *longer;

    if (field == NULL)
        return;
    longer = mc_printf("%s%s" STR_FMT, *list ? *list : "", *list ? "," : "", STR_ARG(text));
    free(*list);
    *list = longer;
}

/* --- all kinds -------------------------------------------------------------------------------- */

static const struct {
    const char *name; /* for the manual */
    value_f *value;
} kinds[CONF_N_KINDS] = {
    [CONF_SECTION] = {"section", NULL},
    [CONF_TEXT] = {"text", value_text},
    [CONF_FILE] = {"file", value_file},
    [CONF_FILES] = {"file", value_texts},
    [CONF_WORD] = {"word", value_word},
    [CONF_FLAGS] = {"words", value_flags},
    [CONF_BOOL] = {"yes or no", value_bool},
    [CONF_UINT] = {"number", value_uint},
    [CONF_WORKERS] = {"auto or number", value_workers},
    [CONF_PERCENT] = {"percentage", value_percent},
    [CONF_RATIO] = {"number", value_ratio},
    [CONF_MODE] = {"octal mode", value_mode},
    [CONF_DURATION] = {"duration", value_duration},
    [CONF_SIZE] = {"size", value_size},
    [CONF_BIND] = {"address:port", value_bind},
    [CONF_NET] = {"network", value_net},
    [CONF_VIP_ADDRESS] = {"address", value_vip_address},
    [CONF_HTTP] = {"address:port or none", value_http},
    [CONF_IP] = {"address", value_ip},
    [CONF_INTERFACE] = {"interface", value_interface},
    [CONF_RESOLVER] = {"address", value_resolver},
    [CONF_BALANCE] = {"policy", value_balance},
    [CONF_HASH_BY] = {"key", value_hash_by},
    [CONF_STATUSES] = {"statuses", value_statuses},
    [CONF_METHOD] = {"method", value_method},
    [CONF_PATH] = {"path", value_path},
    [CONF_NAME] = {"name", value_name},
    [CONF_HOST] = {"host", value_host},
    [CONF_PEER] = {"host:port", value_peer},
    [CONF_ADDRESS] = {"host:port", value_address},
    [CONF_POOL_REF] = {"pool", value_pool_ref},
    [CONF_LISTENER_REF] = {"listener", value_texts},
    [CONF_PATTERN] = {"path", value_pattern},
    [CONF_FIELD] = {"field", value_field},
    [CONF_PARAM] = {"parameter", value_param},
    [CONF_UPGRADE] = {"protocol", value_upgrade},
    [CONF_GRPC] = {"service/method", value_grpc},
};

const char *
conf_kind_name(enum conf_kind kind)
{
    return kinds[kind].name;
}

bool
conf_value(const struct conf_key *k, const char *text, void *object, struct errbuf *e)
{
    void *field = object != NULL ? (char *)object + k->offset : NULL;

    MC_ASSERT(kinds[k->kind].value != NULL);
    if (kinds[k->kind].value(k, str_of(text), object, field, e))
        return true;
    err_wrap(e, "%s", k->name);
    return false;
}

void
conf_value_default(const struct conf_key *k, void *object)
{
    if (k->kind != CONF_SECTION && k->def != NULL)
        MC_ASSERT(conf_value(k, k->def, object, NULL));
}
