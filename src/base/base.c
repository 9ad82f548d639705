#include "base/base.h"
#include "base/error.h"

#include <stdlib.h>

void base_autofree(void *pointer_to_pointer)
{
    void *pointer;

    memcpy(&pointer, pointer_to_pointer, sizeof(pointer));
    free(pointer);
}

pgq_code base_copy_options(void *own, size_t own_size, const void *given, const char *what,
                           pgq_error *err)
{
    const unsigned char *bytes = given;
    size_t size;

    if (given == NULL)
        return PGQ_OK;
    memcpy(&size, given, sizeof(size));
    if (size < sizeof(size) || size > 4096)
        return error_set(err, PGQ_E_INVALID, "%s: struct_size is %zu; start from its _INIT macro",
                         what, size);
    for (size_t at = own_size; at < size; at++) {
        if (bytes[at] != 0)
            return error_set(err, PGQ_E_UNSUPPORTED,
                             "%s: an option is set that this version of the library does not know",
                             what);
    }
    memcpy(own, given, size < own_size ? size : own_size);
    memcpy(own, &own_size, sizeof(own_size));
    return PGQ_OK;
}

pgq_code base_strdup(const char *text, char **ret_copy)
{
    *ret_copy = NULL;
    if (text == NULL)
        return PGQ_OK;
    *ret_copy = strdup(text);
    return *ret_copy != NULL ? PGQ_OK : PGQ_E_NOMEM;
}
