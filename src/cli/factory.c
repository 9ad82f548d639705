/* FILE:SYMBOL: taking it apart, loading the shared object, calling the function. */
#include "cli/factory.h"
#include "base/error.h"

#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>

static pgq_code no_colon(const char *text, pgq_error *err)
{
    const char *dot = strrchr(text, '.');

    (void)error_set(err, PGQ_E_FACTORY, "the factory must be FILE:SYMBOL, not '%.128s'", text);
    if (text[0] == '\0' || strchr(text, ':') != NULL)
        error_hint(err, "for example ./libjobs.so:factory");
    else if (dot == NULL || strchr(text, '/') != NULL || base_streq(dot, ".so"))
        error_hint(err, "for example %s%.128s:factory", strchr(text, '/') != NULL ? "" : "./",
                   text);
    else
        error_hint(err, "write ./%.*s.so:%.64s, with a file and a colon", (int)(dot - text), text,
                   dot + 1);
    return PGQ_E_FACTORY;
}

pgq_code factory_split(const char *text, factory_path *path, pgq_error *err)
{
    const char *colon = strrchr(text, ':');
    buffer file = BUFFER_INIT;

    if (colon == NULL || colon == text || colon[1] == '\0')
        return no_colon(text, err);
    path->symbol = colon + 1;
    if (memchr(text, '/', (size_t)(colon - text)) == NULL)
        buffer_add_text(&file, "./");
    buffer_add(&file, text, (size_t)(colon - text));
    path->file = buffer_steal(&file);
    return path->file != NULL ? PGQ_OK : error_nomem(err);
}

/* dlerror without the file name in front, which the message has already. */
static const char *load_reason(const char *file)
{
    const char *reason = dlerror();
    size_t length = strlen(file);

    if (reason == NULL)
        return "unknown reason";
    if (strncmp(reason, file, length) == 0 && strncmp(reason + length, ": ", 2) == 0)
        return reason + length + 2;
    return reason;
}

pgq_code factory_load(const factory_path *path, pgq_factory *ret_factory, pgq_error *err)
{
    void *object, *symbol;

    if (access(path->file, F_OK) != 0) {
        (void)error_set(err, PGQ_E_NOT_FOUND, "cannot find the file of the factory: %s",
                        strerror(errno));
        error_where(err, "%s", path->file);
        error_hint(err, "FILE is a shared object of handlers, such as ./libjobs.so; build one with "
                        "cc -shared -fPIC");
        return PGQ_E_NOT_FOUND;
    }
    object = dlopen(path->file, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL) {
        (void)error_set(err, PGQ_E_FACTORY, "cannot load the factory: %.300s",
                        load_reason(path->file));
        error_where(err, "%s", path->file);
        error_hint(err,
                   "the file must be a shared object, built with cc -shared -fPIC $(pkg-config "
                   "--cflags --libs pgqueuer)");
        return PGQ_E_FACTORY;
    }
    symbol = dlsym(object, path->symbol);
    if (symbol == NULL) {
        (void)error_set(err, PGQ_E_NOT_FOUND, "the file has no symbol '%.128s'", path->symbol);
        error_where(err, "%s", path->file);
        error_hint(err, "the factory must be a function that is neither static nor hidden; 'nm -D "
                        "FILE' lists them");
        return PGQ_E_NOT_FOUND;
    }
    memcpy(ret_factory, &symbol, sizeof(symbol)); /* POSIX allows it, ISO C has no cast for it */
    return PGQ_OK;
}

pgq_code factory_call(const cli *c, pgq_factory factory, pgq_worker *worker, pgq_error *err)
{
    pgq_code code = factory(worker, (int)c->rest_count, c->rest, err);

    if (code != PGQ_OK && err->code == PGQ_OK)
        (void)error_set(err, code, "the factory failed: %s", pgq_strerror(code));
    if (code != PGQ_OK && err->where[0] == '\0')
        error_where(err, "%s", c->args[0]);
    return code;
}
