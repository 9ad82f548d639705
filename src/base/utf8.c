#include "base/utf8.h"

static bool continues(unsigned char byte)
{
    return (byte & 0xC0u) == 0x80u;
}

size_t utf8_next(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;

    if (len == 0 || at[0] == 0)
        return 0;
    if (at[0] < 0x80)
        return 1;
    if (at[0] < 0xC2)
        return 0;
    if (at[0] < 0xE0)
        return len >= 2 && continues(at[1]) ? 2 : 0;
    if (at[0] < 0xF0) {
        if (len < 3 || !continues(at[1]) || !continues(at[2]))
            return 0;
        if (at[0] == 0xE0 && at[1] < 0xA0)
            return 0; /* overlong */
        if (at[0] == 0xED && at[1] >= 0xA0)
            return 0; /* surrogate */
        return 3;
    }
    if (at[0] > 0xF4 || len < 4 || !continues(at[1]) || !continues(at[2]) || !continues(at[3]))
        return 0;
    if ((at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] >= 0x90))
        return 0;
    return 4;
}

bool utf8_valid(const char *text, size_t len)
{
    size_t at = 0;

    while (at < len) {
        size_t step = utf8_next(text + at, len - at);

        if (step == 0)
            return false;
        at += step;
    }
    return true;
}

size_t utf8_cut(const char *text, size_t len)
{
    while (len > 0 && continues((unsigned char)text[len]))
        len--;
    return len;
}
