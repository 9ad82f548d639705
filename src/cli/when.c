#include "cli/when.h"

/* Reads exactly `digits` digits from *at and moves on. */
static bool take_number(const char **at, int digits, int low, int high, int *ret_number)
{
    int number = 0;

    for (int i = 0; i < digits; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        number = number * 10 + (**at - '0');
    }
    *ret_number = number;
    return number >= low && number <= high;
}

static bool take_char(const char **at, const char *allowed)
{
    if (**at == '\0' || strchr(allowed, **at) == NULL)
        return false;
    (*at)++;
    return true;
}

static int days_of_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Days from 1970-01-01, for years from 1970. */
static int64_t days_since_epoch(int year, int month, int day)
{
    int64_t before = year - 1; /* whole years since year 1 */
    int64_t days = before * 365 + before / 4 - before / 100 + before / 400 - 719162;

    for (int m = 1; m < month; m++)
        days += days_of_month(year, m);
    return days + day - 1;
}

/* The fraction after the point, digits beyond microseconds left out. */
static bool take_fraction(const char **at, int64_t *ret_us)
{
    int64_t unit = 100000;

    *ret_us = 0;
    if (**at < '0' || **at > '9')
        return false;
    for (; **at >= '0' && **at <= '9'; (*at)++, unit /= 10)
        *ret_us += (**at - '0') * unit;
    return true;
}

static bool take_offset(const char **at, int64_t *ret_seconds)
{
    int hours, minutes = 0, sign = **at == '-' ? -1 : 1;

    *ret_seconds = 0;
    if (take_char(at, "Zz"))
        return true;
    if (!take_char(at, "+-") || !take_number(at, 2, 0, 15, &hours))
        return false;
    if (**at != '\0') {
        (void)take_char(at, ":");
        if (!take_number(at, 2, 0, 59, &minutes))
            return false;
    }
    *ret_seconds = (int64_t)sign * (hours * 3600 + minutes * 60);
    return true;
}

bool when_parse(const char *text, int64_t *ret_us)
{
    int year, month, day, hour, minute, second = 0;
    int64_t offset, fraction = 0, us;

    if (!take_number(&text, 4, 1970, 9999, &year) || !take_char(&text, "-") ||
        !take_number(&text, 2, 1, 12, &month) || !take_char(&text, "-") ||
        !take_number(&text, 2, 1, days_of_month(year, month), &day) || !take_char(&text, "Tt ") ||
        !take_number(&text, 2, 0, 23, &hour) || !take_char(&text, ":") ||
        !take_number(&text, 2, 0, 59, &minute))
        return false;
    if (take_char(&text, ":")) {
        if (!take_number(&text, 2, 0, 59, &second))
            return false;
        if (take_char(&text, ".,") && !take_fraction(&text, &fraction))
            return false;
    }
    (void)take_char(&text, " ");
    if (!take_offset(&text, &offset) || *text != '\0')
        return false;
    us = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - offset;
    us = us * 1000000 + fraction;
    if (us <= 0)
        return false;
    *ret_us = us;
    return true;
}
