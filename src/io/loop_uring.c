#include "io/engine.h"
static bool
uring_start(struct loop *l, const struct loop_conf *conf, struct errbuf *note)
{
    err_set(note, "io_uring is not built in");
    return false;
}
const struct engine engine_uring = {.name = "uring", .start = uring_start};
