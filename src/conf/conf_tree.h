/* SPDX-License-Identifier: BSD-2-Clause
 *
 * conf_tree.h - a text that was walked (conf_text.h), read into the tree of libconfuse.
 *
 * The tree holds every value as text: the room whose grammar it is turns it into structs.  The
 * parser of libconfuse keeps its state in globals, so that only one thread of a process may read a
 * configuration at a time.
 */
#ifndef MC_CONF_CONF_TREE_H
#define MC_CONF_CONF_TREE_H

#include <confuse.h>

#include "conf/conf_fault.h"
#include "conf/conf_text.h"

/* Called once for each value, in the order of the text.  `section` stays what it is in the tree,
 * and has its options in the order of the grammar.  Returns what the tree gets a copy of: the
 * value, or a text that is good until the next call. */
typedef const char *conf_value_f(void *arg, cfg_t *section, const char *option, const char *value,
                                 struct conf_at);

/* The caller frees it with cfg_free().  NULL: libconfuse refused the text, and faults tell why. */
cfg_t *conf_tree_read(const struct conf_text *, const struct conf_grammar *, conf_value_f *,
                      void *arg, struct conf_faults *);

#endif
