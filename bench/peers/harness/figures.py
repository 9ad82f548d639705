"""The arithmetic: medians, rates, ratios, and how numbers are written."""

import statistics


def measured(values):
    return [value for value in values if value is not None]


def summary(values):
    """Median and spread of the rounds; a round without a value is left out."""
    found = measured(values)
    if not found:
        return {"median": None, "min": None, "max": None, "rounds": list(values)}
    return {"median": statistics.median(found), "min": min(found), "max": max(found),
            "rounds": list(values)}


def rate(before, after):
    """Jobs a second from two looks at what is left: (seconds, jobs left) each."""
    seconds = after[0] - before[0]
    return (before[1] - after[1]) / seconds if seconds > 0 else None


def ratio(ours, theirs):
    """The median over the rounds of the ratio in a round; not a ratio of medians."""
    found = [a / b for a, b in zip(ours, theirs) if a is not None and b]
    return statistics.median(found) if found else None


def percentile(samples, share):
    """The smallest sample that at least `share` of them do not exceed."""
    if not samples:
        return None
    ordered = sorted(samples)
    return ordered[max(-(-len(ordered) * share // 100), 1) - 1]


def per_job(before, after, jobs):
    """What of the counters falls on a job."""
    return {f"{name}_per_job": (after[name] - before[name]) / jobs if jobs > 0 else None
            for name in before}


def number(value, digits=3):
    """Short and readable: 214 000, 24 800, 4.16, 0.33."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        places = max(len(str(int(abs(value)))) - digits, 0)
        return f"{round(value / 10 ** places) * 10 ** places:,}".replace(",", " ")
    if 0 < value < 0.0005:
        return "< 0.001"
    if abs(value) >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 0.095 else 3}f}"


def spread(found, digits=3):
    """`24 800 (23 100 – 26 000)`, without the brackets when there was one round."""
    text = number(found["median"], digits)
    if found["median"] is None or len(measured(found["rounds"])) < 2:
        return text
    return f"{text} ({number(found['min'], digits)} – {number(found['max'], digits)})"
