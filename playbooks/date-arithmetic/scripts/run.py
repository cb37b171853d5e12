"""Arithmetic on calendar dates: inputs as JSON on stdin, the date and what there is to say of it to PLAYBOOK_RESULT."""

import calendar
import json
import os
import sys
from datetime import date, timedelta

DAY = timedelta(days=1)
SATURDAY = 5
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class NotForMe(Exception):
    """This is a task for somebody else."""


def add_months(day, months, month_end="clamp"):
    """The same day, `months` later. Where that month is shorter:

    clamp takes its last day, roll counts on into the next month, and stick keeps the last day of a month the last.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = last_of(year, month + 1)
    if month_end == "stick" and day.day == last_of(day.year, day.month):
        return date(year, month + 1, last)
    over = max(0, day.day - last) if month_end == "roll" else 0
    return date(year, month + 1, min(day.day, last)) + over * DAY


def last_of(year, month):
    if not date.min.year <= year <= date.max.year:
        raise OverflowError
    return calendar.monthrange(year, month)[1]


def add_business_days(day, count, holidays=frozenset()):
    """The `count`th working day after that day, or before it where `count` is negative."""
    step = DAY if count > 0 else -DAY
    left = abs(count)
    while left:
        day += step
        left -= is_working(day, holidays)
    return day


def is_working(day, holidays):
    return day.weekday() < SATURDAY and day not in holidays


def business_days(start, stop, holidays=frozenset()):
    """Working days after `start` up to and with `stop`; negative, and those from it on, where `stop` is the earlier."""
    if start <= stop:
        free = sum(start < day <= stop and day.weekday() < SATURDAY for day in holidays)
        return weekdays_to(stop.toordinal()) - weekdays_to(start.toordinal()) - free
    free = sum(stop <= day < start and day.weekday() < SATURDAY for day in holidays)
    return weekdays_to(stop.toordinal() - 1) - weekdays_to(start.toordinal() - 1) + free


def weekdays_to(ordinal):
    """Mondays to Fridays in the calendar's first `ordinal` days, of which the first is a Monday."""
    weeks, rest = divmod(ordinal, 7)
    return weeks * 5 + min(rest, SATURDAY)


def next_weekday(day, name):
    """The first such weekday after that day."""
    return day + ((WEEKDAYS.index(name.casefold()) - day.weekday() - 1) % 7 + 1) * DAY


def apart(start, stop):
    """(years, months, days) between the two, the months counted from the earlier and clamped to a month's end."""
    sign = 1 if start <= stop else -1
    early, late = min(start, stop), max(start, stop)
    months = (late.year - early.year) * 12 + late.month - early.month
    if add_months(early, months) > late:
        months -= 1
    return sign * (months // 12), sign * (months % 12), sign * (late - add_months(early, months)).days


def moved(inputs):
    """The date after every step: years and months, weeks and days, business days, the next weekday."""
    sign = -1 if inputs.get("direction", "after") == "before" else 1
    amount = {unit: sign * inputs.get(unit, 0) for unit in ("years", "months", "weeks", "days", "business_days")}
    day = day_of(inputs["date"])
    months = amount["years"] * 12 + amount["months"]
    day = add_months(day, months, inputs.get("month_end", "clamp")) if months else day
    day += timedelta(weeks=amount["weeks"], days=amount["days"])
    day = add_business_days(day, amount["business_days"], holidays_of(inputs))
    return next_weekday(day, inputs["next"]) if inputs.get("next") else day


def holidays_of(inputs):
    return frozenset(map(day_of, inputs.get("holidays", [])))


def day_of(text):
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NotForMe(f"there is no date {text[:40]!a}") from None


def facts(day):
    year, week, _ = day.isocalendar()
    return {
        "date": day.isoformat(),
        "weekday": WEEKDAYS[day.weekday()].capitalize(),
        "iso_week": f"{year:04d}-W{week:02d}",
        "day_of_year": day.timetuple().tm_yday,
        "quarter": (day.month + 2) // 3,
        "month_end": day.replace(day=last_of(day.year, day.month)).isoformat(),
        "leap_year": calendar.isleap(day.year),
    }


def distance(start, stop, holidays):
    years, months, days = apart(start, stop)
    return {
        "days_until": (stop - start).days,
        "business_days_until": business_days(start, stop, holidays),
        "weeks_until": abs((stop - start).days) // 7 * (1 if start <= stop else -1),
        "calendar_until": f"{years} years, {months} months, {days} days",
    }


def sentence(said, until, between):
    text = f"{said['date']} is a {said['weekday']} in week {said['iso_week']}"
    if until:
        working = between["business_days_until"]
        text += f"; to {until} it is {between['days_until']} days, {working} of them working days"
    return text + "."


def report(inputs):
    try:
        day = moved(inputs)
        said = facts(day)
        until = inputs.get("until", "")
        between = distance(day, day_of(until or said["date"]), holidays_of(inputs))
    except OverflowError:
        raise NotForMe("that leads out of the calendar, which goes from the year 1 to 9999") from None
    return {"text": sentence(said, until, between), **said, **between}


def main():
    try:
        output = report(json.load(sys.stdin))
    except NotForMe as why:
        print(why, file=sys.stderr)
        sys.exit(10)
    with open(os.environ.get("PLAYBOOK_RESULT", "/dev/stdout"), "w", encoding="utf-8") as out:
        json.dump(output, out)


if __name__ == "__main__":
    main()
