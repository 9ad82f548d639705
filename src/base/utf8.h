/* Checking and mending UTF-8, as PostgreSQL's UTF8 encoding accepts it: no NUL, no surrogates,
 * nothing above U+10FFFF, shortest forms only. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/base.h"

/* The length in bytes of the valid character at `text`, of which `len` bytes are there; 0 when
 * what stands there is not valid (NUL counts as invalid). */
size_t utf8_next(const char *text, size_t len);

bool utf8_valid(const char *text, size_t len);

/* The largest length <= len at which `text` (at least `len` bytes of valid UTF-8) can be cut
 * without splitting a character. */
size_t utf8_cut(const char *text, size_t len);

#endif
