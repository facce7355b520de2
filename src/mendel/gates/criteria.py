"""The gates, one function each, from measured numbers and bounds to a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from mendel.drift import Task
from mendel.gates.evidence import Findings, FloorFinding, RunCause
from mendel.gates.policy import Bounds
from mendel.gates.report import Family, GateResult, Verdict
from mendel.values import Measured, NotMeasured, render_duration

Criterion = Callable[[Findings, Bounds], GateResult]

_SHOWN_VIOLATIONS = 5
_RESOLUTION = 9


@dataclass(frozen=True, slots=True)
class _Gate:
    """The name, kind and importance of a gate, from which its result is made."""

    name: str
    family: Family
    binding: bool = True

    def says(
        self,
        *,
        passes: bool,
        text: str,
        value: float | None = None,
        bound: float | None = None,
        interval: tuple[float, float] | None = None,
    ) -> GateResult:
        verdict = Verdict.PASS if passes else Verdict.FAIL
        return GateResult(
            gate=self.name,
            family=self.family,
            verdict=verdict,
            binding=self.binding,
            value=value,
            bound=bound,
            interval=interval,
            text=text,
        )

    def waits(self, text: str, needs: str, *, value: float | None = None, bound: float | None = None) -> GateResult:
        return GateResult(
            gate=self.name,
            family=self.family,
            verdict=Verdict.UNDECIDED,
            binding=self.binding,
            value=value,
            bound=bound,
            text=text,
            needs=needs if self.binding else "",
        )


def schema(findings: Findings, _: Bounds) -> GateResult:
    """Pass when every row is valid against the version's schema."""
    gate, violations = _Gate("schema", Family.DATA_QUALITY), findings.schema_violations
    if violations is None:
        return gate.waits("the rows were not validated against the signature", "need a validation of the rows")
    more = len(violations) - _SHOWN_VIOLATIONS
    shown = "; ".join(violations[:_SHOWN_VIOLATIONS]) + (f"; and {more} more" if more > 0 else "")
    return gate.says(passes=not violations, text=shown or "every row is valid", value=float(len(violations)), bound=0.0)


def samples(findings: Findings, bounds: Bounds) -> GateResult:
    """Pass when there are enough labelled evaluation rows, or enough training rows for a first deployment."""
    gate, what, have = _Gate("samples", Family.DATA_QUALITY), "labelled evaluation", findings.samples
    if findings.floor is not None:
        if findings.training_rows is None:
            return gate.waits("the number of training rows is unknown", "need the number of training rows")
        what, have = "training", findings.training_rows
    text, numbers = f"{have} {what} rows; at least {bounds.samples} required", (float(have), float(bounds.samples))
    if have >= bounds.samples:
        return gate.says(passes=True, text=text, value=numbers[0], bound=numbers[1])
    return gate.waits(text, f"need {bounds.samples - have} more {what} rows", value=numbers[0], bound=numbers[1])


def coverage(findings: Findings, bounds: Bounds) -> GateResult:
    """
    Pass when a large enough share of the window's predictions has labels; unlabelled rows may differ from labelled
    ones.
    """
    gate, share = _Gate("coverage", Family.DATA_QUALITY, binding=findings.floor is None), findings.coverage
    if isinstance(share, NotMeasured):
        return gate.waits(str(share), "need predictions in the window")
    text = (
        f"{_percent(share.value)} of {share.samples} predictions labelled; at least "
        f"{_percent(bounds.coverage)} required"
    )
    if _reaches(share.value, bounds.coverage):
        return gate.says(passes=True, text=text, value=share.value, bound=bounds.coverage)
    lacking = max(1, round((bounds.coverage - share.value) * share.samples))
    needs = f"need about {lacking} more labels of the window's predictions"
    return gate.waits(text, needs, value=share.value, bound=bounds.coverage)


def cooldown(findings: Findings, bounds: Bounds) -> GateResult:
    """Pass when enough time has passed since the model's last promotion or rollback to see its effect."""
    gate, since = _Gate("cooldown", Family.DATA_QUALITY, binding=findings.floor is None), findings.since_change
    wanted = f"at least {render_duration(bounds.cooldown)} required"
    if since is None:
        return gate.says(passes=True, text=f"no promotion or rollback yet; {wanted}")
    text = f"{_span(since)} since the last promotion or rollback; {wanted}"
    numbers = since.total_seconds(), bounds.cooldown.total_seconds()
    return gate.says(passes=since >= bounds.cooldown, text=text, value=numbers[0], bound=numbers[1])


def floor(findings: Findings, bounds: Bounds) -> GateResult:
    """Pass a first deployment when its confidence bound is better than chance, or than the policy's floor."""
    found = findings.floor
    gate = _Gate("floor", Family.STATISTICAL, binding=found is not None)
    if found is None:
        return gate.waits("not applied: the model already has a production version", "")
    if isinstance(found.score, NotMeasured):
        return gate.waits(str(found.score), f"need {found.metric} on labelled rows")
    bound = _sure_end(found, found.score, bounds)
    over = bound - found.floor if found.higher_is_better else found.floor - bound
    word = "above" if found.higher_is_better else "below"
    text = (
        f"{found.metric} {found.score.value:.3f}, confidence bound {bound:.3f}; a bound {word} "
        f"{found.floor:.3f} required"
    )
    return gate.says(passes=round(over, _RESOLUTION) > 0, text=text, value=bound, bound=found.floor)


def improvement(findings: Findings, bounds: Bounds) -> GateResult:
    """Pass when the gain in the primary metric reaches the bound and its lower confidence bound is above 0."""
    gate, gain = _Gate("improvement", Family.STATISTICAL, binding=findings.floor is None), findings.gain
    if isinstance(gain, NotMeasured):
        return gate.waits(str(gain), f"need {findings.metric} of both versions on labelled rows")
    enough = _reaches(gain.value, bounds.improvement)
    text = f"relative gain of {findings.metric} {_signed(gain.value)}; at least {_signed(bounds.improvement)} required"
    if not bounds.intervals:
        return gate.says(passes=enough, text=text, value=gain.value, bound=bounds.improvement)
    if not findings.alpha:
        text = (
            f"evaluation {findings.look} of the candidate: the limit of {bounds.looks} evaluations or of "
            "alpha is reached"
        )
        return gate.says(passes=False, text=text, value=gain.value, bound=bounds.improvement)
    text += f"; confidence bound {'unknown' if gain.low is None else _signed(gain.low)}, above 0 required"
    passes = enough and gain.low is not None and round(gain.low, _RESOLUTION) > 0
    lacking = 0 if passes else _lacking_rows(findings, gain, bounds)
    if lacking:
        needs = f"need about {lacking} more labelled rows"
        return gate.waits(text, needs, value=gain.value, bound=bounds.improvement)
    return gate.says(passes=passes, text=text, value=gain.value, bound=bounds.improvement)


def calibration(findings: Findings, bounds: Bounds) -> GateResult:
    """Pass when the Brier score of the probabilities has not increased by more than the bound."""
    increase, needed = findings.calibration, findings.floor is None and findings.probabilities_expected
    gate = _Gate("calibration", Family.STABILITY, binding=needed)
    if isinstance(increase, NotMeasured):
        return gate.waits(str(increase), "need probabilities of both versions")
    text = f"Brier score changed by {increase.value:+.4f}; at most {bounds.calibration:+.4f} allowed"
    passes = _reaches(bounds.calibration, increase.value)
    return gate.says(passes=passes, text=text, value=increase.value, bound=bounds.calibration)


def latency(findings: Findings, bounds: Bounds) -> GateResult:
    """Fail only when the lower confidence bound of the ratio of p95 latencies is above the bound."""
    gate = _Gate("latency", Family.STABILITY, binding=findings.floor is None)
    now, before, ratio = findings.candidate_latency_ms, findings.production_latency_ms, findings.latency_ratio
    free = bounds.latency_floor_ms
    if isinstance(now, Measured) and now.value <= free:
        text = f"p95 latency {now.value:.3g} ms; up to {free:g} ms always passes"
        return gate.says(passes=True, text=text, value=now.value, bound=free)
    if not (isinstance(now, Measured) and isinstance(before, Measured) and isinstance(ratio, Measured)):
        missing = next(found for found in (now, before, ratio) if isinstance(found, NotMeasured))
        return gate.waits(str(missing), "need p95 latencies of both versions, measured side by side")
    text = f"p95 latency {now.value:.3g} ms, production {before.value:.3g} ms: {ratio.value:.3g} times"
    interval = None
    if bounds.intervals and ratio.low is not None and ratio.high is not None:
        interval = (ratio.low, ratio.high)
        text += f" (confidence interval {ratio.low:.3g} to {ratio.high:.3g})"
    text += f"; at most {bounds.latency:g} times allowed"
    passes = _reaches(bounds.latency, ratio.value if interval is None else interval[0])
    return gate.says(passes=passes, text=text, value=ratio.value, bound=bounds.latency, interval=interval)


def size(findings: Findings, bounds: Bounds) -> GateResult:
    """Pass when the artefact fits into the memory budget and has not grown by more than the bound."""
    now, before, budget = findings.candidate_bytes, findings.production_bytes, findings.budget_bytes
    first = findings.floor is not None
    gate = _Gate("size", Family.STABILITY, binding=not first or budget is not None)
    if now is None or (not before and not first):
        return gate.waits("the artefacts' sizes are unknown", "need the sizes of both artefacts")
    fits = budget is None or now <= budget
    room = (
        "no memory budget is set" if budget is None else f"{'within' if fits else 'over'} the budget of {budget} bytes"
    )
    if not before:
        return gate.says(passes=fits, text=f"{now} bytes; {room}")
    text = f"{now} bytes, production {before} bytes; at most {bounds.size:g} times allowed; {room}"
    passes = fits and _reaches(bounds.size, now / before)
    return gate.says(passes=passes, text=text, value=now / before, bound=bounds.size)


def segments(findings: Findings, bounds: Bounds) -> GateResult:
    """Fail when the upper confidence bound of a segment's gain shows a larger loss than the bound allows."""
    gate = _Gate("segments", Family.CONSISTENCY, binding=findings.floor is None)
    highs = {s.name: _most(s.gain, bounds) for s in findings.segments if isinstance(s.gain, Measured)}
    if not highs:
        text = "no segment has enough labelled rows" if findings.segments else "the policy defines no segments"
        return gate.waits(text, f"need a segment of at least {bounds.segment_rows} labelled rows")
    losing = sorted(name for name, high in highs.items() if not _reaches(high, -bounds.segments))
    worst = min(highs, key=lambda name: (highs[name], name))
    text = f"{len(highs)} of {len(findings.segments)} segments measured; gain in the worst segment, {worst}: at most "
    text += f"{_signed(highs[worst])}; at least {_signed(-bounds.segments)} required"
    if losing:
        text += f"; segments with a loss: {', '.join(losing)}"
    return gate.says(passes=not losing, text=text, value=highs[worst], bound=-bounds.segments)


def agreement(findings: Findings, bounds: Bounds) -> GateResult:
    """Pass when the share of unchanged decisions reaches the bound; not binding after drift or a loss of quality."""
    changed = findings.cause in {RunCause.DRIFT, RunCause.QUALITY}
    binding = not changed and findings.floor is None and findings.task is Task.CLASSIFICATION
    gate, share = _Gate("agreement", Family.CONSISTENCY, binding=binding), findings.agreement
    if isinstance(share, NotMeasured):
        return gate.waits(str(share), "need answers of both versions on labelled rows")
    text = f"{_percent(share.value)} of decisions unchanged; at least {_percent(bounds.agreement)} required"
    passes = _reaches(share.value, bounds.agreement)
    return gate.says(passes=passes, text=text, value=share.value, bound=bounds.agreement)


CRITERIA: tuple[Criterion, ...] = (
    schema,
    samples,
    coverage,
    cooldown,
    floor,
    improvement,
    calibration,
    latency,
    size,
    segments,
    agreement,
)


def _lacking_rows(findings: Findings, gain: Measured, bounds: Bounds) -> int:
    """Give how many more rows could show the gain; 0 when the gain is ruled out or no look is left."""
    ruled_out = gain.high is not None and not _reaches(gain.high, bounds.improvement)
    if ruled_out or findings.look >= bounds.looks or findings.planned_rows is None:
        return 0
    return max(0, findings.planned_rows - findings.samples)


def _sure_end(found: FloorFinding, score: Measured, bounds: Bounds) -> float:
    """Give the worse end of the confidence interval, or the point estimate if the policy switches intervals off."""
    end = score.low if found.higher_is_better else score.high
    return score.value if end is None or not bounds.intervals else end


def _most(gain: Measured, bounds: Bounds) -> float:
    """Give the upper bound of a segment's gain, or the point estimate if the policy switches intervals off."""
    return gain.value if gain.high is None or not bounds.intervals else gain.high


def _reaches(value: float, bound: float) -> bool:
    """Whether *value* is at least *bound*, after rounding away arithmetic noise."""
    return round(value - bound, _RESOLUTION) >= 0


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _signed(share: float) -> str:
    return f"{share:+.2%}"


def _span(span: timedelta) -> str:
    """Format a duration in days, hours, minutes and seconds, so that 6 d 23 h 59 m is not rounded to 7 d."""
    days, rest = divmod(span, timedelta(days=1))
    hours, rest = divmod(rest, timedelta(hours=1))
    minutes, rest = divmod(rest, timedelta(minutes=1))
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest.seconds, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
