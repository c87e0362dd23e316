"""What was measured, and how it is shown: a table, JSON, an SVG picture.

A Measure is one figure with its samples, and what it must reach where something is asked of it.
"""

import dataclasses
import html
import json
import math
import statistics
import textwrap

AT_MOST, AT_LEAST = "at most", "at least"
REACHED, MISSED, NO_TARGET, NOT_MEASURED = "reached", "MISSED", "-", "not measured"


@dataclasses.dataclass
class Measure:
    """One line of the table. `samples` empty: `problem` says why."""

    row: str  # the name that --only takes
    name: str
    unit: str = ""
    samples: list = dataclasses.field(default_factory=list)
    bound: str = ""  # AT_MOST, AT_LEAST or nothing
    target: float = 0.0
    # Judged by the worst sample instead of the median: for promises, not speeds.
    by_worst: bool = False
    note: str = ""
    problem: str = ""
    group: str = ""  # the picture's panel, for measures without a target
    in_note: bool = False  # the note of another measure tells it: no line of the table

    @property
    def value(self):
        if not self.samples:
            return None
        if self.by_worst:
            return max(self.samples) if self.bound != AT_LEAST else min(self.samples)
        return statistics.median(self.samples)

    @property
    def verdict(self):
        if self.value is None:
            return NOT_MEASURED
        if not self.bound:
            return NO_TARGET
        kept = self.value <= self.target if self.bound == AT_MOST else self.value >= self.target
        return REACHED if kept else MISSED

    @property
    def used(self):
        """How much of what is allowed was used: 1 is the target itself, less is better."""
        if not self.bound or self.value is None:
            return None
        if self.bound == AT_MOST:
            return self.value / self.target if self.target else float(self.value != 0)
        return self.target / self.value if self.value else math.inf

    def as_json(self):
        fields = {"row": self.row, "name": self.name, "unit": self.unit, "verdict": self.verdict}
        if self.samples:
            fields |= {"value": self.value, "least": min(self.samples),
                       "most": max(self.samples), "samples": self.samples}
        if self.bound:
            fields |= {"bound": self.bound, "target": self.target}
        for key in ("note", "problem", "group"):
            if getattr(self, key):
                fields[key] = getattr(self, key)
        return fields


def number(value):
    """Three or more digits that count, and thousands apart."""
    if value == 0 or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 6)}f}"


def spread(measure):
    if len(measure.samples) < 2:
        return "one sample" if measure.samples else ""
    return (f"{number(min(measure.samples))} to {number(max(measure.samples))}"
            f" ({len(measure.samples)})")


def each_contender(row, label, samples, group, unit="s"):
    """Measures of {contender: its samples}, in one panel; the table has them in told()'s note."""
    return [Measure(row, f"{label}, {name}", unit, values, group=group, in_note=True)
            for name, values in samples.items()]


def told(samples, unit="s"):
    """{contender: its samples} in a note: medians, and the least and most where there are more."""
    def one(name, values):
        ends = f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else ""
        return f"{name} {number(statistics.median(values))} {unit}{ends}"
    return "; ".join(one(name, values) for name, values in samples.items())


class Table:
    """Prints measures as they come, a heading before each row's first."""

    WIDTHS = (56, 20, 36, 8)
    NOTE_WIDTH = 120

    def __init__(self, stream, colour):
        self._stream = stream
        self._colour = colour
        self._row = None

    def begin(self):
        self._line("", "median", "least to most (samples)", "target", "verdict")

    def add(self, measure, heading):
        if measure.in_note:
            return
        if measure.row != self._row:
            self._row = measure.row
            print(f"\n{self._paint('1', measure.row)}  {heading}", file=self._stream)
        target = ""
        if measure.bound:
            target = f"{'<=' if measure.bound == AT_MOST else '>='} {number(measure.target)}"
        value = "" if measure.value is None else f"{number(measure.value)} {measure.unit}".strip()
        self._line("  " + measure.name, value, spread(measure), target, self._verdict(measure))
        for text in (measure.problem, measure.note):
            for line in textwrap.wrap(text, self.NOTE_WIDTH):
                print(self._paint("2", f"      {line}"), file=self._stream)
        self._stream.flush()

    def _line(self, *cells):
        widths = self.WIDTHS + (0,)
        alignment = "<>>><"
        print("  ".join(f"{cell:{how}{width}}" if width else cell
                        for cell, how, width in zip(cells, alignment, widths)).rstrip(),
              file=self._stream)

    def _verdict(self, measure):
        colour = {REACHED: "32", MISSED: "1;31", NOT_MEASURED: "33"}.get(measure.verdict)
        return self._paint(colour, measure.verdict) if colour else measure.verdict

    def _paint(self, code, text):
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def write_json(path, environment, measures):
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"environment": environment, "measures": [m.as_json() for m in measures]}, file,
                  indent=1)
        file.write("\n")


# ------------------------------------------------------------------------------- picture --------

PANEL_WIDTH, LABEL_WIDTH, BAR_WIDTH, LINE = 1120, 420, 400, 22
INK, FAINT, GOOD, BAD, OTHER = "#222222", "#888888", "#2f7d4f", "#b3372f", "#3b6ea5"


class Picture:
    """Panels of horizontal bars, one below the other."""

    def __init__(self):
        self._parts = []
        self._y = 16

    def text(self, x, content, size=13, colour=INK, anchor="start", weight="normal"):
        self._parts.append(
            f'<text x="{x:.1f}" y="{self._y + 15:.1f}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{html.escape(content)}</text>')

    def heading(self, content, remark):
        self._y += 14
        self.text(16, content, size=16, weight="bold")
        self._y += LINE
        self.text(16, remark, size=12, colour=FAINT)
        self._y += LINE + 4

    def bar(self, label, shares, colour, figure):
        """`shares`: (least, median, most) as parts of the bar's full width."""
        least, middle, most = (min(max(share, 0.0), 1.0) * BAR_WIDTH for share in shares)
        self.text(LABEL_WIDTH, label, anchor="end")
        x, y = LABEL_WIDTH + 12, self._y
        self._parts.append(f'<rect x="{x}" y="{y + 3}" width="{max(middle, 1):.1f}" height="15" '
                           f'rx="2" fill="{colour}"/>')
        if most - least > 0.5:
            self._parts.append(f'<path d="M{x + least:.1f} {y + 10.5}H{x + most:.1f}" '
                               f'stroke="{INK}" stroke-width="1.5"/>')
        self.text(x + max(middle, most) + 8, figure, size=12)
        self._y += LINE

    def rule(self, share, lines, label):
        """A dashed line through the last `lines` bars."""
        x = LABEL_WIDTH + 12 + share * BAR_WIDTH
        self._parts.append(f'<path d="M{x:.1f} {self._y - lines * LINE}V{self._y}" '
                           f'stroke="{INK}" stroke-dasharray="4 3"/>')
        self.text(x, label, size=12, colour=FAINT, anchor="middle")
        self._y += LINE

    def document(self):
        height = self._y + 16
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PANEL_WIDTH} {height}" '
                f'width="{PANEL_WIDTH}" height="{height}" font-family="sans-serif">\n'
                f'<rect width="100%" height="100%" fill="white"/>\n'
                + "\n".join(self._parts) + "\n</svg>\n")


def _draw_targets(picture, measures):
    full = 1.5  # the bar's end: half as much again as is allowed
    picture.heading("What it must reach",
                    "how much of what is allowed was used: shorter is better, up to the line")
    for measure in measures:
        value, target = (f"{number(v)} {measure.unit}".strip()
                         for v in (measure.value, measure.target))
        least, most = measure.used, measure.used
        if measure.target and not measure.by_worst:
            ends = [m / measure.target if measure.bound == AT_MOST else measure.target / m
                    for m in (min(measure.samples), max(measure.samples)) if m]
            least, most = min(ends), max(ends)
        colour = GOOD if measure.verdict == REACHED else BAD
        picture.bar(measure.name, (least / full, measure.used / full, most / full), colour,
                    f"{value} ({measure.bound} {target})")
    picture.rule(1 / full, len(measures), "target")


def _draw_group(picture, group, measures):
    longest = max(max(measure.samples) for measure in measures) or 1
    picture.heading(group, f"{measures[0].unit}: median; the thin line runs from least to most")
    for measure in measures:
        shares = (min(measure.samples), measure.value, max(measure.samples))
        picture.bar(measure.name, [share / longest * 0.8 for share in shares],
                    OTHER, f"{number(measure.value)}")


def write_svg(path, measures):
    picture = Picture()
    judged = [m for m in measures if m.used is not None and math.isfinite(m.used)]
    if judged:
        _draw_targets(picture, judged)
    for group in dict.fromkeys(m.group for m in measures if m.group):
        members = [m for m in measures if m.group == group and m.samples]
        if members:
            _draw_group(picture, group, members)
    with open(path, "w", encoding="utf-8") as file:
        file.write(picture.document())
