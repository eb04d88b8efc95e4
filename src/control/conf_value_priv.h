/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_value_priv.h - the kinds of values.  For conf_value*.c only.
 */
#ifndef MC_CONTROL_CONF_VALUE_PRIV_H
#define MC_CONTROL_CONF_VALUE_PRIV_H

#include "control/conf_keys.h"

/* field: where the value goes, NULL when it is only checked; object: the struct around it.  e gets
 * "what is wrong, expected ..." */
typedef bool value_f(const struct conf_key *, struct str text, void *object, void *field,
                     struct errbuf *e);

/* conf_value_word.c */
value_f value_uint, value_workers, value_percent, value_duration, value_size, value_ratio,
    value_mode, value_statuses, value_word, value_flags, value_bool, value_balance;
/* Index of the word in "a|b|c", -1 when it is none of them. */
int value_word_index(const char *words, struct str text);

/* conf_value_text.c */
value_f value_text, value_file, value_texts, value_method, value_path, value_field, value_param,
    value_pattern, value_grpc, value_hash_by, value_pool_ref, value_upgrade;
/* Can go into a field value or a path as it is: no control character, no byte that a line could end
 * with. */
bool value_is_visible(struct str, bool spaces);

/* conf_value_addr.c */
value_f value_bind, value_http, value_ip, value_interface, value_net, value_vip_address,
    value_resolver, value_host, value_name, value_address, value_peer;

/* Stores; of a field that is NULL, nothing. */
void value_store_uint(const struct conf_key *, void *field, uint64_t);
void value_store_text(void *field, struct str);
/* One more at the end of a list that is one text. */
void value_list_join(void *field, struct str text);
/* Room for one more element of a list; zeroed. */
void *value_list_add(const struct conf_key *, void *object, size_t elem_bytes);

#endif
