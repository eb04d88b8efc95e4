/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/conf_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"

/* A grammar of houses with rooms. */
enum place { TOP, HOUSE, ROOM, ROOF, N_PLACES };

static const struct conf_word words[] = {
    {.name = "colour", .place = TOP, .list = true},
    {.name = "house", .place = TOP, .section = true, .titled = true, .inner = HOUSE},
    {.name = "room", .place = HOUSE, .section = true, .titled = true, .inner = ROOM},
    {.name = "roof", .place = HOUSE, .section = true, .inner = ROOF},
    {.name = "door", .place = ROOM},
    {.name = "height", .place = ROOM},
    {.name = "slope", .place = ROOF},
    {.name = "height", .place = ROOF},
    {0},
};

static bool
word(unsigned i, struct conf_word *out)
{
    *out = words[i];
    return words[i].name != NULL;
}

static const char *
place_name(unsigned place)
{
    static const char *const names[N_PLACES] = {"", "house", "room", "roof"};

    return names[place];
}

static const char *
place_text(unsigned place)
{
    return place == TOP ? "the street" : place_name(place);
}

static const struct conf_grammar grammar = {N_PLACES, word, place_name, place_text, "houses(5)"};

/* Notes what it sees, and puts the number of the value into the tree. */
struct seen {
    struct buf notes;
    unsigned n;
    char text[16];
};

static const char *
note(void *arg, cfg_t *section, const char *option, const char *value, struct conf_at at)
{
    struct seen *s = arg;

    buf_printf(&s->notes, "%s.%s=%s:%u ", section->title ? section->title : section->name, option,
               value, at.line);
    snprintf(s->text, sizeof(s->text), "%u", s->n++);
    return s->text;
}

/* --- a tree ------------------------------------------------------------------------------------
 */

static const char street[] = "# comments take no part\n"
                             "colour = {red, \"light blue\"}\n"
                             "house \"one\" {\n"
                             "  roof { slope = 40 height = 2 }\n"
                             "  room \"hall\" {\n"
                             "     door = oak\n"
                             "  }\n"
                             "}\n"
                             "colour += green\n";

static void
values_are_told_in_their_order_with_their_lines(void **state)
{
    struct conf_text text = {0};
    struct conf_faults faults = {0};
    struct seen seen = {0};
    cfg_t *cfg;

    assert_true(conf_text_parse(&text, &grammar, "t", str_of(street), &faults));
    cfg = conf_tree_read(&text, &grammar, note, &seen, &faults);
    assert_non_null(cfg);
    assert_string_equal(seen.notes.p, "root.colour=red:2 root.colour=light blue:2 roof.slope=40:4 "
                                      "roof.height=2:4 hall.door=oak:6 root.colour=green:9 ");
    assert_int_equal(cfg_size(cfg, "colour"), 3);
    assert_string_equal(cfg_getnstr(cfg, "colour", 2), "5");
    assert_string_equal(cfg_getstr(cfg, "house|room|door"), "4");
    assert_int_equal(faults.n, 0);
    cfg_free(cfg);
    buf_free(&seen.notes);
    conf_text_free(&text);
    conf_faults_free(&faults);
}

/* --- what was meant ----------------------------------------------------------------------------
 */

static void
an_unknown_name_is_told_where_it_belongs_or_what_is_like_it(void **state)
{
    static const struct {
        unsigned place;
        const char *name, *told;
    } rows[] = {
        {TOP, "slope", "expected in roof"},
        {TOP, "height", "expected in room or roof"},
        {ROOM, "colour", "expected in the street"},
        {ROOF, "slop", "expected \"slope\" perhaps"},
        {HOUSE, "garden", "expected an option that houses(5) lists"},
    };
    struct errbuf e;

    for (unsigned i = 0; i < MC_COUNT(rows); i++) {
        conf_grammar_suggest(&grammar, rows[i].place, str_of(rows[i].name), &e);
        assert_string_equal(e.text, rows[i].told);
    }
}

static void
an_option_is_found_in_its_place_only(void **state)
{
    struct conf_word w;

    assert_true(conf_grammar_find(&grammar, ROOF, STR("height"), &w));
    assert_int_equal(w.place, ROOF);
    assert_false(conf_grammar_find(&grammar, HOUSE, STR("height"), &w));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_told_in_their_order_with_their_lines),
        cmocka_unit_test(an_unknown_name_is_told_where_it_belongs_or_what_is_like_it),
        cmocka_unit_test(an_option_is_found_in_its_place_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
